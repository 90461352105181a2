//! Tiny rings, a fan-out of 4, two sets that tell each other in cycles across nodes.

use anyhow::{Result, ensure};
use ringfleet_proto::control::Keys;
use ringfleet_tests::actors::{PING, PLAYERS, PONG, Player, ReadTally, Serve, Tally};
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use crate::support::{BINARY, run};

#[test]
fn tiny_rings_and_cycles_spill_and_overload_but_keep_order_and_the_sum() {
    run(async |env| -> Result<()> {
        let small = [
            "--ring-slots",
            "8",
            "--ingress-slots",
            "8",
            "--egress-slots",
            "8",
            "--spill-slots",
            "128",
            "--batch",
            "8",
        ];
        let cluster = TestCluster::start(&env, BINARY, |config| {
            config.node_args = small.iter().map(|arg| (*arg).to_owned()).collect();
            config.node_args.extend(["--outbound-max".to_owned(), "256".to_owned()]);
        })
        .await?;
        let players = Keys::Dense { count: PLAYERS };
        // Half of what a worker of n1 sends stays there, in an amplifying cycle of the two workers of that node: more messages than
        // all rings and spills of the device hold, whatever its speed is and whatever the agents do. So workers jam for certain.
        cluster.apply_set(PONG, "test.player", players, 8, &["n1", "n2"]).await?;
        cluster.apply_set(PING, "test.player", players, 8, &["n1"]).await?;
        let session = cluster.session().await?;
        for key in 0..PLAYERS {
            let serve = Serve { seed: key + 1, flights: 6, balls: 4 };
            session.tell_to(Player::in_set(PING, key), &serve).await?;
        }
        session.flush().await?;
        let sum = cluster.conserved().await?;
        let spilled = cluster.metric("ringfleet_worker_spilled_total").await?;
        // Whoever meets the full queue first gives up: a worker in overload, or the agent whose bound for other nodes is reached.
        let overload_rounds = cluster.metric("ringfleet_worker_overload_rounds_total").await?;
        let overloaded = cluster.dead_lettered("overloaded").await?;
        println!("{sum:?}, spilled {spilled}, rounds in overload {overload_rounds}, overloaded {overloaded}");
        let between = cluster.metric("ringfleet_agent_node_in_total").await?;
        ensure!(between > 0, "no cycle went across nodes");
        ensure!(spilled > 0, "nothing was spilled");
        ensure!(overload_rounds > 0, "no worker was in overload");
        ensure!(overloaded > 0, "nothing was dead-lettered as overloaded");
        ensure!(overloaded == sum.dead_lettered, "{overloaded} overloaded of {sum:?}");
        ensure!(sum.lost == 0, "{sum:?}");
        let mut all = Tally { caught: 0, thrown: 0, disordered: 0 };
        for key in 0..PLAYERS {
            let ping: Tally = session.ask_of(Player::in_set(PING, key), &ReadTally {}, PATIENCE).await?;
            let pong: Tally = session.ask_of(Player::in_set(PONG, key), &ReadTally {}, PATIENCE).await?;
            for tally in [ping, pong] {
                all.caught += tally.caught;
                all.thrown += tally.thrown;
                all.disordered += tally.disordered;
            }
        }
        ensure!(all.disordered == 0, "C3: {all:?}");
        ensure!(i128::from(all.thrown) == i128::from(all.caught) + sum.dead_lettered, "C7: {all:?}, {sum:?}");
        cluster.stop().await
    });
}
