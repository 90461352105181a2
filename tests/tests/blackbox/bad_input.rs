//! What users get wrong: one clear line on stderr, a non-zero exit code, no panic, no hang.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Result, ensure};
use ringfleet::local::Kind;
use ringfleet_env::Env;
use ringfleet_link::{ClusterCa, Role, Validity};
use ringfleet_proto::control::Keys;
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use crate::support::{BINARY, run};

/// Runs the binary to its end.
async fn ringfleet(env: &Env, args: &[&str], folder: &Path) -> Result<Output> {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(folder).env("RINGFLEET_CONFIG", folder.join("config.yaml"));
    command.stdin(Stdio::null());
    let output = env.timeout(PATIENCE, env.run_blocking(move || command.output())).await?;
    Ok(output?)
}

/// Fails with `code` and one line that holds every one of `words`.
async fn refuses(env: &Env, folder: &Path, args: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let output = ringfleet(env, args, folder).await?;
    let stderr = String::from_utf8(output.stderr)?;
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let about = format!("`ringfleet {}` exited with {:?} and said {stderr:?}", args.join(" "), output.status.code());
    ensure!(output.status.code() == Some(code), "{about}, expected exit code {code}");
    ensure!(errors.len() == 1, "{about}, expected one line that begins with `error: `");
    for word in words {
        ensure!(errors[0].contains(word), "{about}, which does not mention `{word}`");
    }
    ensure!(!stderr.contains("panicked"), "{about}");
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn documents_that_are_wrong_are_refused_with_file_line_and_field() {
    run(async |env| -> Result<()> {
        let folder = tempfile::tempdir()?;
        let set = folder.path().join("set.yaml");
        let document = "apiVersion: ringfleet.io/v1alpha1\nkind: ActorSet\nmetadata:\n  name: x\nspec:\n  type: counter\n  shardz: 12\n";
        std::fs::write(&set, document)?;
        refuses(&env, folder.path(), &["apply", "-f", &text(&set)], 2, &["set.yaml:7:", "spec", "shardz"]).await?;
        std::fs::write(&set, document.replace("shardz: 12", "shards: many"))?;
        refuses(&env, folder.path(), &["apply", "-f", &text(&set)], 2, &["set.yaml:7:", "spec.shards"]).await?;
        refuses(&env, folder.path(), &["apply", "-f", "absent.yaml"], 2, &["absent.yaml"]).await
    });
}

#[test]
fn processes_that_cannot_start_say_why() {
    run(async |env| -> Result<()> {
        let cluster = TestCluster::start(&env, BINARY, |config| {
            (config.coordinators, config.nodes) = (1, 1);
        })
        .await?;
        let folder = tempfile::tempdir()?;
        let of = |kind| cluster.local.processes().iter().find(|process| process.kind == kind).cloned();
        let (coordinator, node) = (of(Kind::Coordinator).unwrap(), of(Kind::Node).unwrap());
        let identity = |name: &str| text(&cluster.local.folder().join(name));
        let coordinators = coordinator.advertise.to_string();
        let (n1, taken) = (identity("n1"), node.listen.to_string());
        let as_node = |listen: &'static str| {
            ["node", "--identity", &n1, "--listen", listen, "--join-deadline", "2s", "--coordinators"]
                .map(str::to_owned)
        };
        let node_args = |listen, coordinators: &str| {
            let mut args: Vec<String> = as_node(listen).into();
            args.push(coordinators.to_owned());
            args
        };

        // A second node under the same name.
        let args = node_args("127.0.0.1:0", &coordinators);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuses(&env, folder.path(), &args, 3, &["n1", "name_in_use"]).await?;

        // A port that is taken.
        let mut args = node_args("127.0.0.1:0", &coordinators);
        args[4] = taken;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuses(&env, folder.path(), &args, 1, &["taken", &node.listen.to_string()]).await?;

        // Nobody there.
        let args = node_args("127.0.0.1:0", "127.0.0.1:9");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuses(&env, folder.path(), &args, 4, &["127.0.0.1:9"]).await?;

        // A node of another authority; a client's certificate for a node.
        let disk = env.disk();
        let validity = Validity::from_now(env.wall_ms(), PATIENCE);
        let stranger = folder.path().join("stranger");
        ClusterCa::create("test", validity)?.issue(Role::Node, "n9", validity)?.save(&*disk, &stranger)?;
        let stranger = text(&stranger);
        let mut args = node_args("127.0.0.1:0", &coordinators);
        args[2] = stranger;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuses(&env, folder.path(), &args, 4, &["certificate"]).await?;
        let mut args = node_args("127.0.0.1:0", &coordinators);
        args[2] = identity("client");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuses(&env, folder.path(), &args, 1, &["client"]).await?;

        // A folder that cannot be written: a file stands where it should be.
        let file = folder.path().join("file");
        std::fs::write(&file, "")?;
        let (data, c1) = (text(&file.join("data")), identity("c1"));
        let peers = format!("c1={coordinators}");
        let args =
            ["coordinator", "--identity", &c1, "--listen", "127.0.0.1:0", "--peers", &peers, "--data", data.as_str()];
        refuses(&env, folder.path(), &args, 1, &["file"]).await?;
        cluster.stop().await
    });
}

#[test]
fn a_cluster_without_a_quorum_answers_by_the_deadline_and_unknown_types_are_named() {
    run(async |env| -> Result<()> {
        let mut cluster = TestCluster::start(&env, BINARY, |config| config.nodes = 1).await?;
        let folder = tempfile::tempdir()?;
        let config = cluster.write_contexts(folder.path())?;
        let operator = |args: &[&str]| {
            let mut all = vec!["--config".to_owned(), config.clone(), "--context".to_owned(), "operator".to_owned()];
            all.extend(args.iter().map(|arg| (*arg).to_owned()));
            all
        };
        let set = folder.path().join("set.yaml");
        let document =
            "apiVersion: ringfleet.io/v1alpha1\nkind: ActorSet\nmetadata: { name: x }\nspec: { type: nonsense }\n";
        std::fs::write(&set, document)?;
        let args = operator(&["apply", "-f", &text(&set)]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuses(&env, folder.path(), &args, 3, &["set.yaml:1", "nonsense", "flights.carrier", "counter"]).await?;

        cluster.apply("counter", Keys::Dense { count: 10 }, 4).await?;
        let args = operator(&["-o", "json", "get", "sets"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = ringfleet(&env, &args, folder.path()).await?;
        let sets: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        ensure!(output.status.success() && sets.to_string().contains("counter"), "{sets}");

        for name in cluster.names(Kind::Coordinator).iter().skip(1) {
            cluster.local.kill(name).await.map_err(anyhow::Error::msg)?;
        }
        let args = operator(&["--deadline", "3s", "get", "nodes"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let begun = env.now();
        refuses(&env, folder.path(), &args, 4, &[]).await?;
        println!("no quorum was told after {:?}", env.now() - begun);
        Ok(())
    });
}
