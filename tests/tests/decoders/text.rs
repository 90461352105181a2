//! Text that people and processes hand in: actor sets, contexts, metrics pages, HTTP replies, events, messages as JSON.

use ringfleet::config::ConfigFile;
use ringfleet::metrics::Metrics;
use ringfleet::{document, http, message};
use ringfleet_actors::flights::csv;
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::txmon::ledger::Ledger;
use ringfleet_proto::control::{FieldReport, Scalar};

use crate::control::type_report;
use crate::{bounded, feed, fuzz};

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const SET: &str = "apiVersion: ringfleet.io/v1alpha1\nkind: ActorSet\nmetadata: { name: a.b }\nspec:\n  type: t\n  keys: \
                   { dense: { count: 12 } }\n  shards: 8\n  workers: 3\n  placement: { nodes: [n1, n2] }\n  restart: restart\n";

const ON_FAILURE: &str = "on_failure: { policy: restart, max_restarts: 3, window_ms: 60000, parent: a.c }";

#[test]
fn actor_sets() {
    let bomb =
        "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: &d [*c, *c, *c, *c]\nkind: [*d, *d]\n";
    let escalates = SET.replace("restart: restart", ON_FAILURE);
    let seeds = texts(&[SET, &escalates, &format!("# two\n---\n{SET}---\n{SET}"), bomb, "{[{[", "a: !!binary x"]);
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let Ok(text) = std::str::from_utf8(&bytes) else { return };
        match bounded(&bytes, 4096, || document::parse("sets.yaml", text)) {
            Ok(sets) => {
                for set in sets {
                    let written = serde_json::to_string(&set.set).expect("plain data");
                    let read = document::parse("again.json", &written).expect("JSON is YAML");
                    assert_eq!(read.first().map(|read| &read.set), Some(&set.set));
                }
            }
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "one line: {error}"),
        }
    });
}

#[test]
fn contexts() {
    let config = "currentContext: dev\ncontexts: [{ name: dev, cluster: dev, credentials: op }]\nclusters: [{ name: dev, coordinators: \
                  ['127.0.0.1:7400'], ca: ca.pem }]\ncredentials: [{ name: op, certificate: op.pem, key: op.key }]\n";
    let seeds = texts(&[config, ""]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.yaml");
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        std::fs::write(&path, &bytes).expect("written");
        match bounded(&bytes, 4096, || ConfigFile::load(&path)) {
            Ok(config) => drop(config.context(None, &path)),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "one line: {error}"),
        }
    });
}

#[test]
fn metrics_pages() {
    let page = "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 18446744073709551615\nb 4.5e300\nc +Inf\nc +Inf\nd NaN\n";
    let seeds = texts(&[page]);
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let text = String::from_utf8_lossy(&bytes);
        let page = bounded(text.as_bytes(), 256, || Metrics::parse(&text));
        for name in ["a", "b", "c", "d", ""] {
            let _ = (page.sum(name), page.has(name));
        }
    });
}

#[test]
fn replies_of_http() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x\r\n ho\r\n0\r\n\r\n";
    let seeds =
        texts(&[chunked, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "HTTP/1.1 503 No\r\n\r\nnot joined"]);
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let _ = bounded(&bytes, 64, || http::body(&bytes).is_ok());
    });
}

#[test]
fn flight_events() {
    let seeds = texts(&[
        "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01 05:00:00",
        "1,2,,,",
        "NA",
    ]);
    fuzz!(|plan| {
        let mut bytes = feed(&seeds, plan);
        // A line has no line break inside.
        bytes.retain(|&byte| byte != b'\n');
        match bounded(&bytes, 16, || csv::parse(7, &bytes)) {
            Ok(event) => assert!((1..=12).contains(&event.month) && (1..=31).contains(&event.day), "{event:?}"),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "one line: {error}"),
        }
    });
}

#[test]
fn graphs() {
    let seeds =
        texts(&["# a comment\nvertex\tto\na\t1 2\nb\t\nc\t0 0 2\n", "vertex\tto\r\na\t0\r\n", "vertex\tto\n\t\n"]);
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        match bounded(&bytes, 256, || Graph::parse(&bytes)) {
            Ok(graph) => {
                assert!(graph.vertices() > 0 && graph.names.len() == graph.to.len());
                assert!(graph.to.iter().flatten().all(|to| *to < graph.vertices()));
            }
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "one line: {error}"),
        }
    });
}

#[test]
fn ledgers() {
    let header = "time_ms,kind,payer,payee,cents,label\n";
    let lines = [
        "1,transfer,1,2,3,round_trip\n2,deposit,-,2,3,\n2,salary,9,4294967295,1,velocity\n",
        "1,purchase,1,2,3,\r\n",
        "",
    ];
    let seeds = texts(&lines.map(|lines| format!("{header}{lines}")).each_ref().map(String::as_str));
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        match bounded(&bytes, 256, || Ledger::parse(&bytes)) {
            Ok(ledger) => {
                assert!(ledger.transactions.iter().all(|t| t.cents > 0));
                assert!(ledger.transactions.is_sorted_by_key(|t| t.time_ms));
                assert_eq!(Ledger::parse(ledger.to_csv().as_bytes()), Ok(ledger));
            }
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "one line: {error}"),
        }
    });
}

#[test]
fn messages_as_json() {
    let report = type_report().handles[0].clone();
    let seeds = texts(&["{\"delay\": 1, \"miles\": 4294967295}", "{\"delay\": -1}", "[1]", "{\"a\":{\"b\":1e400}}"]);
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let Ok(text) = std::str::from_utf8(&bytes) else { return };
        if let Ok(payload) = bounded(&bytes, 1024, || message::encode(&report, text)) {
            let value = message::decode(&report.fields, &payload).expect("the fields are inside");
            assert_eq!(message::encode(&report, &value.to_string()).expect("what was written"), payload);
        }
    });
}

/// The descriptor of a reply comes from the cluster, its bytes from an actor.
#[test]
fn payloads_of_replies() {
    const SCALARS: [Scalar; 12] = [
        Scalar::U8,
        Scalar::U16,
        Scalar::U32,
        Scalar::U64,
        Scalar::U128,
        Scalar::I8,
        Scalar::I16,
        Scalar::I32,
        Scalar::I64,
        Scalar::I128,
        Scalar::F32,
        Scalar::F64,
    ];
    let seeds = vec![vec![2, 0, 0, 0, 0, 3, 0, 0, 4, 0, 11, 0, 2, 8, 0], vec![9, 255, 255, 255, 255]];
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let fields: Vec<FieldReport> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|&[scalar, count_high, count, at, at_high]| FieldReport {
                name: "field".into(),
                scalar: SCALARS[usize::from(scalar) % SCALARS.len()],
                count: u16::from_be_bytes([count_high, count]),
                offset_bytes: u16::from_le_bytes([at, at_high]),
            })
            .collect();
        for payload in [&bytes[..bytes.len().min(32)], &[0xff; 32]] {
            let _ = bounded(&bytes, 1024, || message::decode(&fields, payload).is_ok());
        }
    });
}
