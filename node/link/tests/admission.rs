//! Who gets a connection (C11). In every refusal the listener yields nothing, which is shown by the
//! next arrival being a good one.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{LONG, Pair, ca, day, endpoint, hostile, run};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use ringfleet_env::{Clock, Env, ManualClock, OsDisk};
use ringfleet_link::{
    Alpn, BindError, CertificateFault, ClusterCa, ConnectError, Endpoint, Expect, Identity, LinkConfig, Role, RoleSet,
    Validity, file,
};

/// Dials with a bad identity, then shows that the listener goes on and never yielded the bad peer.
async fn refused_dial(pair: &mut Pair, identity: Identity, alpn: Alpn) -> ConnectError {
    let before = pair.server.stats();
    let (endpoint, dialled) = pair.dial(identity, alpn, Expect::role(Role::Node)).await;
    let error = dialled.expect_err("a bad peer was admitted");
    endpoint.wait_idle().await;
    let (_endpoint, near, far) = pair.connect().await;
    assert_eq!(far.peer().name(), "app", "the first arrival is the good peer");
    assert_eq!(near.peer().name(), "server");
    let after = pair.server.stats();
    assert_eq!((after.admitted - before.admitted, after.refused - before.refused), (1, 1));
    error
}

/// Dials a listener with a bad identity as a good client.
async fn refusing_dial(env: &Env, ca: ClusterCa, server: Identity, expect: Expect) -> CertificateFault {
    let pair = Pair::with_server(env, ca, server);
    let (endpoint, dialled) = pair.dial(pair.identity(Role::Client, "app"), Alpn::Data, expect).await;
    endpoint.wait_idle().await;
    // The listener learns of it and counts it; it yields nobody.
    while pair.server.stats().refused == 0 {
        env.sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(pair.server.stats().admitted, 0);
    match dialled {
        Err(ConnectError::PeerCertificate { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// A certificate of this authority with whatever names, as a careless or hostile issuer makes it.
fn forged(ca: &ClusterCa, uris: &[&str]) -> Result<Identity, ringfleet_link::IdentityError> {
    let folder = tempfile::tempdir().unwrap();
    ca.save(&OsDisk, folder.path()).unwrap();
    let key = std::fs::read_to_string(folder.path().join(file::CA_KEY)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(ca.certificate_pem(), KeyPair::from_pem(&key).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Identity::from_pem(&certificate.pem(), &key.serialize_pem(), ca.certificate_pem())
}

#[test]
fn a_good_pair_knows_each_other() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        assert_eq!(near.peer().to_string(), "spiffe://ringfleet/blue/node/server");
        assert_eq!(far.peer().to_string(), "spiffe://ringfleet/blue/client/app");
        assert_eq!((near.alpn(), far.alpn()), (Alpn::Data, Alpn::Data));
        let named = Expect::named(Role::Node, "server");
        let (_endpoint, near) = pair.dial(pair.identity(Role::Operator, "me"), Alpn::Control, named).await;
        near.unwrap();
        let far = pair.listener.accept().await.unwrap();
        assert_eq!((far.alpn(), far.peer().role()), (Alpn::Control, Role::Operator));
    });
}

#[test]
fn a_listener_of_another_authority_is_refused() {
    run(async |env| {
        let (ours, theirs) = (ca(&env), ca(&env));
        let server = theirs.issue(Role::Node, "server", day(&env)).unwrap();
        let fault = refusing_dial(&env, ours, server, Expect::role(Role::Node)).await;
        assert_eq!(fault, CertificateFault::UnknownCa);
    });
}

#[test]
fn a_dialler_of_another_authority_is_refused() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        // It trusts the listener's authority, but its certificate is of another one.
        let folder = tempfile::tempdir().unwrap();
        let theirs = ca(&env).issue(Role::Client, "app", day(&env)).unwrap();
        theirs.save(&OsDisk, folder.path()).unwrap();
        std::fs::write(folder.path().join(file::CA_CERTIFICATE), pair.ca.certificate_pem()).unwrap();
        let mixed = Identity::load(&OsDisk, folder.path()).unwrap();
        let error = refused_dial(&mut pair, mixed, Alpn::Data).await;
        let ConnectError::OwnCertificate { fault: CertificateFault::UnknownCa, .. } = error else {
            panic!("{error:?}")
        };
    });
}

#[test]
fn a_listener_of_another_role_or_name_or_an_expired_one_is_refused() {
    run(async |env| {
        let authority = ca(&env);
        let server = authority.issue(Role::Coordinator, "server", day(&env)).unwrap();
        let fault = refusing_dial(&env, authority, server, Expect::role(Role::Node)).await;
        let expected = RoleSet::from(Role::Node);
        assert_eq!(fault, CertificateFault::WrongRole { expected, found: Role::Coordinator });

        let authority = ca(&env);
        let server = authority.issue(Role::Node, "n1", day(&env)).unwrap();
        let fault = refusing_dial(&env, authority, server, Expect::named(Role::Node, "n2")).await;
        let (expected, found) = ("n2".to_owned(), "n1".to_owned());
        assert_eq!(fault, CertificateFault::WrongName { expected, found });

        let authority = ca(&env);
        let past = Validity { not_before_ms: 0, not_after_ms: env.wall_ms() - 60_000 };
        let server = authority.issue(Role::Node, "server", past).unwrap();
        let fault = refusing_dial(&env, authority, server, Expect::role(Role::Node)).await;
        assert_eq!(fault, CertificateFault::Expired);

        // A client's certificate is none for listening, whatever is expected.
        let authority = ca(&env);
        let server = authority.issue(Role::Client, "server", day(&env)).unwrap();
        let fault = refusing_dial(&env, authority, server, Expect::role(Role::Client)).await;
        assert!(matches!(fault, CertificateFault::Unusable(_)), "{fault:?}");
    });
}

#[test]
fn a_listener_of_another_cluster_is_refused() {
    run(async |env| {
        let authority = ca(&env);
        let server = forged(&authority, &["spiffe://ringfleet/green/node/server"]).unwrap();
        let fault = refusing_dial(&env, authority, server, Expect::role(Role::Node)).await;
        let (expected, found) = ("blue".to_owned(), "green".to_owned());
        assert_eq!(fault, CertificateFault::WrongCluster { expected, found });
    });
}

#[test]
fn a_dialler_of_a_wrong_role_is_told_which() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let viewer = pair.identity(Role::Viewer, "eve");
        let error = refused_dial(&mut pair, viewer, Alpn::Data).await;
        let ConnectError::NotAllowed { reason, .. } = &error else { panic!("{error:?}") };
        assert_eq!(reason, "for ringfleet-data its certificate is of role viewer instead of node or client");
        assert!(!error.is_transient());
    });
}

#[test]
fn a_hostile_dialler_is_closed_before_its_first_byte_is_read() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let addr = pair.server.local_addr().unwrap();
        let green = forged(&pair.ca, &["spiffe://ringfleet/green/client/app"]).unwrap();
        let nameless = forged(&pair.ca, &["spiffe://ringfleet/blue/root/app"]);
        assert!(nameless.unwrap_err().to_string().contains("has an unknown role"));
        let two = ["spiffe://ringfleet/blue/client/app", "spiffe://ringfleet/blue/operator/root"];
        assert!(forged(&pair.ca, &two).unwrap_err().to_string().contains("more than one uri"));

        for (identity, words) in [
            (green, "for ringfleet-data its certificate is of cluster green instead of blue"),
            (
                pair.identity(Role::Viewer, "eve"),
                "for ringfleet-data its certificate is of role viewer instead of node or client",
            ),
        ] {
            let (endpoint, connection) = hostile(&identity, Alpn::Data, addr).await;
            // For TLS it is connected by now, and it does not wait for a welcome.
            if let Ok((mut send, _recv)) = connection.open_bi().await {
                let _ = send.write_all(&[0; 1000]).await;
            }
            let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else {
                panic!("{:?}", connection.close_reason())
            };
            assert_eq!(close.reason, words.as_bytes());
            drop(endpoint);
        }
        let (_endpoint, _near, far) = pair.connect().await;
        assert_eq!(far.peer().name(), "app", "the first arrival is the good peer");
        assert_eq!((pair.server.stats().admitted, pair.server.stats().refused), (1, 2));
    });
}

#[test]
fn an_expired_dialler_is_told_so() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let past = Validity { not_before_ms: 0, not_after_ms: env.wall_ms() - 60_000 };
        let expired = pair.ca.issue(Role::Client, "app", past).unwrap();
        let error = refused_dial(&mut pair, expired, Alpn::Data).await;
        let ConnectError::OwnCertificate { fault: CertificateFault::Expired, .. } = error else { panic!("{error:?}") };
    });
}

#[test]
fn validity_is_judged_by_the_time_of_the_environment_and_renewal_helps() {
    run(async |env| {
        let clock = Arc::new(ManualClock::new(env.monotonic_ns(), env.wall_ms()));
        // The listener lives by the real clock and shows a certificate of an hour.
        let authority = ca(&env);
        let hour = Validity::from_now(env.wall_ms(), Duration::from_secs(3600));
        let server = authority.issue(Role::Node, "server", hour).unwrap();
        let pair = Pair::with_server(&env, authority, server);
        // The dialler lives two hours later.
        clock.set_wall_ms(env.wall_ms() + 2 * 3600 * 1000);
        let later = env.with_clock(clock.clone());
        assert!(later.wall_ms() > env.wall_ms() && clock.now() <= env.now());
        let client = Endpoint::bind(
            &later,
            "127.0.0.1:0".parse().unwrap(),
            pair.identity(Role::Client, "app"),
            LinkConfig::LOOPBACK,
        )
        .unwrap();
        let addr = pair.server.local_addr().unwrap();
        let expect = Expect::role(Role::Node);
        let error = client.connect(addr, Alpn::Data, expect.clone(), LONG).await.unwrap_err();
        assert!(matches!(error, ConnectError::PeerCertificate { fault: CertificateFault::Expired, .. }), "{error}");
        // A renewed certificate is shown from then on.
        pair.server.renew_identity(pair.identity(Role::Node, "server")).unwrap();
        client.connect(addr, Alpn::Data, expect, LONG).await.unwrap();
        let other = pair.server.renew_identity(pair.identity(Role::Node, "other")).unwrap_err();
        assert!(other.to_string().contains("node/other instead of"), "{other}");
    });
}

#[test]
fn a_protocol_that_is_not_spoken_is_named() {
    run(async |env| {
        let authority = ca(&env);
        let server = endpoint(&env, authority.issue(Role::Node, "server", day(&env)).unwrap());
        let _listener = server.listen(&[(Alpn::Data, RoleSet::ALL)]).unwrap();
        assert!(server.listen(&[(Alpn::Data, RoleSet::ALL)]).is_err(), "one listener at a time");
        let client = endpoint(&env, authority.issue(Role::Client, "app", day(&env)).unwrap());
        let addr = server.local_addr().unwrap();
        let dialled = client.connect(addr, Alpn::Control, Expect::role(Role::Node), LONG).await;
        assert_eq!(dialled.unwrap_err().to_string(), format!("{addr} does not speak ringfleet-control"));
    });
}

#[test]
fn a_dial_to_nobody_ends_at_its_deadline_and_says_so() {
    run(async |env| {
        let authority = ca(&env);
        let client = endpoint(&env, authority.issue(Role::Client, "app", day(&env)).unwrap());
        // Bound, and silent.
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = nobody.local_addr().unwrap();
        let limit = Duration::from_millis(200);
        let start = env.now();
        let error = client.connect(addr, Alpn::Data, Expect::role(Role::Node), limit).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no answer from {addr} within 200ms"));
        assert!(error.is_transient() && env.now() - start < LONG);
    });
}

#[test]
fn an_endpoint_whose_listener_is_gone_answers_nobody_and_may_listen_again() {
    run(async |env| {
        let pair = Pair::new(&env);
        let Pair { server, listener, ca, .. } = pair;
        drop(listener);
        let client = endpoint(&env, ca.issue(Role::Client, "app", day(&env)).unwrap());
        let addr = server.local_addr().unwrap();
        let limit = Duration::from_millis(200);
        let error = client.connect(addr, Alpn::Data, Expect::role(Role::Node), limit).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error}");
        let mut listener = server.listen(&[(Alpn::Data, RoleSet::ALL)]).unwrap();
        let near = client.connect(addr, Alpn::Data, Expect::role(Role::Node), LONG).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().remote_addr(), client.local_addr().unwrap());
        drop(near);
    });
}

#[test]
fn a_taken_port_and_a_foreign_address_are_named() {
    run(async |env| {
        let authority = ca(&env);
        let identity = || authority.issue(Role::Node, "n", day(&env)).unwrap();
        let first = endpoint(&env, identity());
        let addr = first.local_addr().unwrap();
        let taken = Endpoint::bind(&env, addr, identity(), LinkConfig::DEFAULTS).unwrap_err();
        assert!(matches!(taken, BindError::PortTaken { .. }));
        assert_eq!(taken.to_string(), format!("udp port {addr} is taken by another process"));
        let foreign = "192.0.2.1:0".parse().unwrap();
        let foreign = Endpoint::bind(&env, foreign, identity(), LinkConfig::DEFAULTS).unwrap_err();
        assert_eq!(foreign.to_string(), "this machine has no address 192.0.2.1");
    });
}
