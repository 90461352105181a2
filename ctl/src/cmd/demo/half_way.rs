//! Half-way: where the application lets the demonstration interfere, and goes on when that is over.

use tokio::sync::watch;

/// The meeting place of the application and of what happens half-way.
#[derive(Debug)]
pub struct HalfWay {
    /// Whether half of it is done.
    reached: watch::Sender<bool>,
    /// Whether what is to happen meanwhile is over.
    done: watch::Sender<bool>,
}

impl Default for HalfWay {
    fn default() -> Self {
        Self { reached: watch::Sender::new(false), done: watch::Sender::new(false) }
    }
}

impl HalfWay {
    /// Half of it is done: what is to happen meanwhile may begin.
    pub fn reach(&self) {
        self.reached.send_replace(true);
    }

    /// Waits until half of it is done.
    pub async fn reached(&self) {
        // The sender is a field of this very value.
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    /// Lets the application go on to its end.
    pub fn done(&self) {
        self.done.send_replace(true);
    }

    /// Waits until what is to happen meanwhile is over.
    pub async fn wait_done(&self) {
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }
}
