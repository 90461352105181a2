//! The health port holds its bounds whatever connects to it (C9).

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{LONG, run};
use ringfleet_env::Env;
use ringfleet_node::http::{CONNECTIONS_MAX, HealthPort, REQUEST_BYTES_MAX};
use ringfleet_node::shared::Shared;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Port {
    env: Env,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Port {
    fn start(env: &Env, limit: Duration) -> Self {
        let port = HealthPort::open(env, "127.0.0.1:0".parse().expect("an address")).expect("a port").with_limit(limit);
        let (addr, shared) = (port.addr(), Arc::new(Shared::new(env, "n1")));
        env.spawn("health", port.serve(shared.clone())).detach();
        Self { env: env.clone(), addr, shared }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("a connection")
    }

    /// What comes until the other side closes, or says no more for a while.
    async fn answer(&self, stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let mut bytes = [0; 4096];
        while let Ok(Ok(count @ 1..)) = self.env.timeout(LONG, stream.read(&mut bytes)).await {
            text.extend_from_slice(&bytes[..count]);
            if text.ends_with(b"\n") {
                break;
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn is_closed(&self, stream: &mut TcpStream) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.env.timeout(LONG, stream.read(&mut bytes)).await {
                Ok(Ok(0) | Err(_)) => return true,
                // An answer such as 431 may come first.
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }

    fn refused(&self) -> u64 {
        self.shared.snapshot().http_refused
    }
}

const GET: &[u8] = b"GET /livez HTTP/1.1\r\nHost: n1\r\n\r\n";

#[test]
fn one_connection_too_many_is_closed_and_counted_and_the_others_are_served() {
    run(2, async |env| {
        let port = Port::start(&env, LONG);
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = port.connect().await;
            stream.write_all(GET).await.expect("taken");
            assert!(port.answer(&mut stream).await.starts_with("HTTP/1.1 200"));
            open.push(stream);
        }
        let mut more = port.connect().await;
        assert!(port.is_closed(&mut more).await);
        assert_eq!(port.refused(), 1);
        let page = ringfleet_node::metrics::render(&port.shared.snapshot()).expect("a page");
        assert!(page.contains("ringfleet_http_refused_total 1"), "{page}");
        // On a connection that is kept, and on one in the place of another that went.
        let mut last = open.pop().expect("one");
        last.write_all(GET).await.expect("taken");
        assert!(port.answer(&mut last).await.ends_with("ok\n"));
        drop(last);
        let deadline = env.now() + LONG;
        loop {
            let mut stream = port.connect().await;
            // A refused one may be gone before it has been written to.
            let _ = stream.write_all(GET).await;
            if port.answer(&mut stream).await.ends_with("ok\n") {
                break;
            }
            assert!(env.now() < deadline, "no connection takes the free place");
        }
    });
}

#[test]
fn requests_that_are_too_long_or_never_end_are_cut() {
    run(2, async |env| {
        let port = Port::start(&env, Duration::from_millis(300));
        let mut long = port.connect().await;
        let header = format!("GET /livez HTTP/1.1\r\nX: {}", "x".repeat(2 * REQUEST_BYTES_MAX));
        // Cut while it is written, perhaps.
        let _ = long.write_all(header.as_bytes()).await;
        assert!(port.is_closed(&mut long).await);
        let mut slow = port.connect().await;
        slow.write_all(&GET[..GET.len() - 2]).await.expect("taken");
        assert!(port.is_closed(&mut slow).await);
        assert_eq!(port.refused(), 2);
        let mut quiet = port.connect().await;
        quiet.write_all(GET).await.expect("taken");
        assert!(port.answer(&mut quiet).await.ends_with("ok\n"));
        assert!(port.is_closed(&mut quiet).await, "a connection that asks nothing more goes away");
        assert_eq!(port.refused(), 2, "which is nobody's fault");
    });
}
