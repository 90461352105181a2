//! The one task that writes the file: in order, as many changes per sync as have queued up.

use super::file::{Store, Write};
use ringfleet_env::{Env, TaskHandle};
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Changes that wait for the disk; who has one more waits.
const QUEUE_MAX: usize = 1024;
/// Changes that share one sync.
const BATCH_MAX: usize = 256;

type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

struct Job {
    write: Write,
    done: Done,
}

/// A handle to the writer. The task ends, and the file is closed, when the last handle is dropped.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the task.
    pub fn start(env: &Env, store: Store) -> (Self, TaskHandle) {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let task = env.spawn("log-writer", run(env.clone(), store, queue));
        (Self { jobs }, task)
    }

    /// Queues a change; `done` is called when it is durable, or cannot be.
    ///
    /// # Errors
    /// When the writer has stopped; `done` is not called then.
    pub async fn submit(&self, write: Write, done: Done) -> io::Result<()> {
        self.jobs.send(Job { write, done }).await.map_err(|_| stopped())
    }

    /// Waits until a change is durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write(&self, write: Write) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        self.submit(write, Box::new(move |result| drop(tell.send(result)))).await?;
        told.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log is closed")
}

async fn run(env: Env, store: Store, mut queue: mpsc::Receiver<Job>) {
    let store = Arc::new(store);
    let mut failure: Option<String> = None;
    while let Some(first) = queue.recv().await {
        let (mut writes, mut done) = (vec![first.write], vec![first.done]);
        while writes.len() < BATCH_MAX
            && let Ok(job) = queue.try_recv()
        {
            writes.push(job.write);
            done.push(job.done);
        }
        if failure.is_none() {
            let store = store.clone();
            // After a failed sync nothing is known about the file: nothing more is written to it.
            failure = env.run_blocking(move || store.commit(&writes)).await.err().map(|e| e.to_string());
        }
        for done in done {
            done(failure.as_ref().map_or(Ok(()), |reason| Err(io::Error::other(reason.clone()))));
        }
    }
}
