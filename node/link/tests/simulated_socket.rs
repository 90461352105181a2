//! The real protocol over a socket of our own making: what a simulator supplies.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use common::{LONG, ca, day, run};
use ringfleet_env::{BoxFuture, Datagram, DatagramMeta, DatagramSocket, Env, EnvParts, Net, UdpBinding};
use ringfleet_link::{Alpn, Endpoint, Expect, LinkConfig, Role, RoleSet};

/// A network in memory that loses every n-th datagram.
#[derive(Debug, Default)]
struct Wire {
    inboxes: HashMap<SocketAddr, Inbox>,
    sent: u64,
    lost: u64,
}

#[derive(Debug, Default)]
struct Inbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
}

const LOSE_EVERY: u64 = 10;

#[derive(Debug, Clone, Default)]
struct SimulatedNet(Arc<Mutex<Wire>>);

impl Net for SimulatedNet {
    fn bind_udp(&self, addr: SocketAddr) -> io::Result<UdpBinding> {
        self.0.lock().unwrap().inboxes.insert(addr, Inbox::default());
        Ok(UdpBinding::Simulated(Arc::new(Socket { addr, net: self.clone() })))
    }

    fn listen_tcp(&self, _: SocketAddr) -> io::Result<std::net::TcpListener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

#[derive(Debug)]
struct Socket {
    addr: SocketAddr,
    net: SimulatedNet,
}

impl DatagramSocket for Socket {
    fn send(&self, datagram: Datagram<'_>) -> io::Result<()> {
        let mut wire = self.net.0.lock().unwrap();
        wire.sent += 1;
        if wire.sent.is_multiple_of(LOSE_EVERY) {
            wire.lost += 1;
            return Ok(());
        }
        if let Some(inbox) = wire.inboxes.get_mut(&datagram.destination) {
            inbox.datagrams.push_back((self.addr, datagram.contents.to_vec()));
            if let Some(waker) = inbox.waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [DatagramMeta],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.net.0.lock().unwrap();
        let inbox = wire.inboxes.get_mut(&self.addr).unwrap();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((source, contents)) = inbox.datagrams.pop_front() else { break };
            buffer[..contents.len()].copy_from_slice(&contents);
            *meta = DatagramMeta { source, bytes: contents.len(), ecn: None, destination_ip: Some(self.addr.ip()) };
            count += 1;
        }
        if count == 0 {
            inbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

#[test]
fn frames_and_calls_survive_a_lossy_simulated_network() {
    run(async |real| {
        let net = SimulatedNet::default();
        let env = Env::new(EnvParts { net: Arc::new(net.clone()), ..real.parts().clone() });
        let authority = ca(&env);
        let [here, there] = ["10.0.0.1:7400", "10.0.0.2:7400"].map(|addr| addr.parse::<SocketAddr>().unwrap());
        let bind = |addr, name| {
            let identity = authority.issue(Role::Node, name, day(&env)).unwrap();
            Endpoint::bind(&env, addr, identity, LinkConfig::DEFAULTS).unwrap()
        };
        let (client, server) = (bind(here, "n1"), bind(there, "n2"));
        let mut listener = server.listen(&[(Alpn::Data, RoleSet::ALL)]).unwrap();
        let near = client.connect(there, Alpn::Data, Expect::named(Role::Node, "n2"), LONG).await.unwrap();
        let far = listener.accept().await.unwrap();
        assert_eq!(far.remote_addr(), here);
        env.spawn("server", async move {
            far.serve_calls(|request| async move { request }).await;
        })
        .detach();
        for number in 0..50_u8 {
            let request = Bytes::from(vec![number; 20_000]);
            assert_eq!(near.call(request.clone(), LONG).await.unwrap(), request);
        }
        assert!(near.stats().lost_packets > 0 && net.0.lock().unwrap().lost > 0);
        near.close(0, "done");
        env.timeout(Duration::from_secs(5), client.wait_idle()).await.unwrap();
    });
}
