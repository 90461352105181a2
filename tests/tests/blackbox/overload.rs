//! Tiny rings, a fan-out of 4, two sets that tell each other in cycles across nodes.

use anyhow::{Result, ensure};
use ringfleet_proto::control::Keys;
use ringfleet_tests::actors::{PLAYERS, Ping, Pong, ReadTally, Serve, Tally};
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
        cluster.apply("test.ping", Keys::Dense { count: PLAYERS }, 8).await?;
        cluster.apply("test.pong", Keys::Dense { count: PLAYERS }, 8).await?;
        let session = cluster.session().await?;
        for key in 0..PLAYERS {
            let serve = Serve { seed: key + 1, flights: 6, balls: 4 };
            session.tell_to(Ping::at(key), &serve).await?;
        }
        session.flush().await?;
        let sum = cluster.conserved().await?;
        let spilled = cluster.metric("ringfleet_worker_spilled_total").await?;
        // Whoever meets the full queue first gives up: a worker in overload, or the agent whose bound for other nodes is reached. On a
        // quick machine the agents take it all; that a worker does is shown by the device's own tests.
        let overload_rounds = cluster.metric("ringfleet_worker_overload_rounds_total").await?;
        let overloaded = cluster.dead_lettered("overloaded").await?;
        println!("{sum:?}, spilled {spilled}, rounds in overload {overload_rounds}, overloaded {overloaded}");
        ensure!(spilled > 0, "nothing was spilled");
        ensure!(overloaded > 0, "nothing was dead-lettered as overloaded");
        ensure!(overloaded == sum.dead_lettered, "{overloaded} overloaded of {sum:?}");
        ensure!(sum.lost == 0, "{sum:?}");
        let mut all = Tally { caught: 0, thrown: 0, disordered: 0 };
        for key in 0..PLAYERS {
            let ping: Tally = session.ask_of(Ping::at(key), &ReadTally {}, PATIENCE).await?;
            let pong: Tally = session.ask_of(Pong::at(key), &ReadTally {}, PATIENCE).await?;
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
