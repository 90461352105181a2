//! Links of two nodes over loopback.

mod common;

use std::{collections::BTreeSet, sync::Arc};

use common::{Cluster, LONG, run};
use ringfleet_abi::{Incarnation, NodeId};
use ringfleet_env::Env;
use ringfleet_link::{Alpn, Endpoint, Expect, Role, RoleSet};
use ringfleet_node::links::{Link, LinkEvent, Links, LinksConfig};
use ringfleet_node::membership::Request;
use ringfleet_node::shared::Shared;
use ringfleet_proto::{
    Lane, PeerIdentity,
    control::{DeviceView, MemberView, NodeView, SessionIdentity},
    wire::{self, Hello},
};
use tokio::sync::{Notify, mpsc, watch};

/// A node's links, without a loop.
struct Node {
    endpoint: Endpoint,
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    requests: mpsc::Receiver<Request>,
    shared: Arc<Shared>,
    _view: watch::Sender<Option<Arc<NodeView>>>,
}

fn incarnation(node: u32) -> Incarnation {
    Incarnation(10 + u64::from(node))
}

fn member(node: u32) -> MemberView {
    MemberView {
        node,
        name: format!("n{node}"),
        incarnation: incarnation(node).0,
        data_addr: String::new(),
        http_addr: String::new(),
        devices: vec![DeviceView::joined(1, 1)],
    }
}

impl Node {
    fn start(env: &Env, cluster: &Cluster, node: u32) -> Self {
        Self::start_for(env, cluster, node, 10)
    }

    fn start_for(env: &Env, cluster: &Cluster, node: u32, clients_max: usize) -> Self {
        let endpoint = cluster.endpoint(Role::Node, &format!("n{node}"));
        let view = NodeView {
            index: 20,
            coordinators: Vec::new(),
            members: (1..=3).map(member).collect(),
            sets: Vec::new(),
            shards: Vec::new(),
        };
        let (view_tx, view) = watch::channel(Some(Arc::new(view)));
        let (requests, requests_rx) = mpsc::channel(8);
        let agent = Arc::new(Notify::new());
        let shared = Arc::new(Shared::new(env, "n1"));
        let config = LinksConfig {
            node: NodeId(node),
            incarnation: incarnation(node),
            view,
            requests,
            agent,
            clients_max,
            shared: shared.clone(),
        };
        let (links, events) = Links::new(env, endpoint.clone(), config);
        let accepting = links.clone();
        let mut listener = endpoint.listen(&[(Alpn::Data, RoleSet::ALL)]).expect("a listener");
        env.spawn("accept", async move {
            while let Some(connection) = listener.accept().await {
                accepting.accepted(connection);
            }
        })
        .detach();
        Self { endpoint, links, events, requests: requests_rx, shared, _view: view_tx }
    }

    fn addr(&self) -> String {
        self.endpoint.local_addr().expect("bound").to_string()
    }

    async fn event(&mut self, env: &Env) -> LinkEvent {
        env.timeout(LONG, self.events.recv()).await.expect("an event in time").expect("links live")
    }

    async fn up(&mut self, env: &Env) -> Box<Link> {
        match self.event(env).await {
            LinkEvent::Up(link) => link,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn frames_of_each_lane_arrive_in_order_and_the_end_is_told() {
    run(2, async |env| {
        let cluster = Cluster::new(&env);
        let (mut one, mut two) = (Node::start(&env, &cluster, 1), Node::start(&env, &cluster, 2));
        one.links.dial(NodeId(2), incarnation(2), two.addr());
        let (near, mut far) = (one.up(&env).await, two.up(&env).await);
        assert_eq!(near.peer, PeerIdentity::Node { node: NodeId(2), incarnation: incarnation(2) });
        assert_eq!(far.peer, PeerIdentity::Node { node: NodeId(1), incarnation: incarnation(1) });
        for number in 0..2_000_u32 {
            assert!(near.send(Lane::Data, number.to_le_bytes().to_vec()));
            assert!(near.send(Lane::Answers, number.to_le_bytes().to_vec()));
        }
        for number in 0..2_000_u32 {
            let frame = env.timeout(LONG, far.data.recv()).await.expect("in time").expect("the link is up");
            assert_eq!(frame[..], number.to_le_bytes(), "C3");
            match two.event(&env).await {
                LinkEvent::Answers(id, frame) => {
                    assert_eq!((id, &frame[..]), (far.id, &number.to_le_bytes()[..]), "C3")
                }
                other => panic!("{other:?}"),
            }
        }
        near.close("enough");
        assert!(matches!(two.event(&env).await, LinkEvent::Down(id, _) if id == far.id));
    });
}

/// Dials as node 3 and says hello; gives why the connection ended, or `None` if the other side answered.
async fn say(env: &Env, dialler: &Endpoint, to: &Node, identity: PeerIdentity) -> Option<String> {
    let addr = to.endpoint.local_addr().expect("bound");
    let connection = dialler.connect(addr, Alpn::Data, Expect::role(Role::Node), LONG).await.expect("admitted");
    let mut lanes = connection.open_lanes(LONG).await.expect("lanes");
    let mut hello = Vec::new();
    wire::encode_hello(&Hello::new(identity, 0), &mut hello);
    lanes.answers_out.send(&hello).await.expect("sent");
    let answer = env.timeout(LONG, lanes.answers_in.recv()).await.expect("in time");
    let refused = match answer {
        Ok(Some(_)) => None,
        _ => Some(connection.closed().await.to_string()),
    };
    connection.close(ringfleet_link::code::NORMAL, "done");
    refused
}

#[test]
fn a_hello_must_say_what_the_certificate_and_the_view_say() {
    run(2, async |env| {
        let cluster = Cluster::new(&env);
        let one = Node::start(&env, &cluster, 1);
        let dialler = cluster.endpoint(Role::Node, "n3");
        let as_node =
            |node: u32, start: u32| PeerIdentity::Node { node: NodeId(node), incarnation: incarnation(start) };
        assert_eq!(say(&env, &dialler, &one, as_node(3, 3)).await, None);
        for (claimed, why) in [
            (as_node(2, 2), "says that it is node n2"),
            (as_node(2, 3), "says that its id is"),
            (as_node(3, 5), "is not a live member"),
        ] {
            let refused = say(&env, &dialler, &one, claimed).await.expect("C11: accepted");
            assert!(refused.contains(why), "{refused}");
        }
    });
}

#[test]
fn no_link_is_down_before_it_is_up() {
    run(4, async |env| {
        let cluster = Cluster::new(&env);
        let mut one = Node::start(&env, &cluster, 1);
        let dialler = cluster.endpoint(Role::Node, "n3");
        let identity = PeerIdentity::Node { node: NodeId(3), incarnation: incarnation(3) };
        for _ in 0..30 {
            // Closed as soon as the hello is answered, at about the time at which the link comes up over there.
            assert_eq!(say(&env, &dialler, &one, identity).await, None);
        }
        let (mut up, mut links) = (BTreeSet::new(), Vec::new());
        let mut down = 0;
        while down < 30 {
            match one.event(&env).await {
                LinkEvent::Up(link) => {
                    assert!(up.insert(link.id));
                    links.push(link);
                }
                LinkEvent::Down(id, _) => {
                    assert!(up.contains(&id), "{id} is down and was never up");
                    down += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn one_client_too_many_is_refused_and_counted_until_another_goes() {
    run(2, async |env| {
        let cluster = Cluster::new(&env);
        let node = Node::start_for(&env, &cluster, 1, 1);
        let Node { endpoint, links: _links, mut events, mut requests, shared, _view } = node;
        let look_up = async move {
            while let Some(request) = requests.recv().await {
                if let Request::Session { session, answer } = request {
                    let owner = SessionIdentity {
                        session: session.0,
                        name: "ann".to_owned(),
                        role: ringfleet_proto::control::Role::Client,
                    };
                    // Nobody waits any more if the link has gone.
                    let _ = answer.send(Ok(owner));
                }
            }
        };
        env.spawn("sessions", look_up).detach();
        let addr = endpoint.local_addr().expect("bound");
        let dialler = cluster.endpoint(Role::Client, "ann");
        let dial = async |session: u32| {
            let connection = dialler.connect(addr, Alpn::Data, Expect::role(Role::Node), LONG).await.expect("admitted");
            let mut lanes = connection.open_lanes(LONG).await.expect("lanes");
            let mut hello = Vec::new();
            let identity = PeerIdentity::Client { session: ringfleet_abi::SessionId(session) };
            wire::encode_hello(&Hello::new(identity, 0), &mut hello);
            lanes.answers_out.send(&hello).await.expect("sent");
            match env.timeout(LONG, lanes.answers_in.recv()).await.expect("in time") {
                Ok(Some(_)) => Ok((connection, lanes)),
                _ => Err(connection.closed().await.to_string()),
            }
        };
        let first = dial(1).await.expect("the first has a place");
        let refused = dial(2).await.expect_err("there is no second place");
        assert!(refused.contains("as many links of clients as it may have"), "{refused}");
        assert_eq!(shared.snapshot().links_refused, [0, 1]);
        let link = env.timeout(LONG, events.recv()).await.expect("in time").expect("links live");
        assert!(matches!(&link, LinkEvent::Up(_)), "{link:?}");
        first.0.close(ringfleet_link::code::NORMAL, "done");
        let down = env.timeout(LONG, events.recv()).await.expect("in time").expect("links live");
        assert!(matches!(down, LinkEvent::Down(..)), "{down:?}");
        let deadline = env.now() + LONG;
        while dial(3).await.is_err() {
            assert!(env.now() < deadline, "the place is never free again");
        }
    });
}
