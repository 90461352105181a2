//! The text of a `/metrics` page, and the conservation sum (C7) over the pages of all nodes.

use std::time::Duration;

use serde::Serialize;

/// How long the pages of a cluster must say the same to be taken for its state: what each shows may be a turn of a resting agent old.
pub const SETTLED_AFTER: Duration = ringfleet_node::agent::TURN_MAX.saturating_mul(2);

/// One line of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// A page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Reads a page; lines that are none are skipped.
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect() }
    }

    /// The samples of this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The sum over all labels. 0 where there is none.
    pub fn sum(&self, name: &str) -> i128 {
        // A page may say anything, `+Inf` twice as well.
        self.named(name).fold(0, |sum, sample| i128::saturating_add(sum, sample.value as i128))
    }

    /// Whether the page has this name at all.
    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, rest) = match line.find('{') {
        Some(open) => {
            let close = line.rfind('}')?;
            (line.get(..open)?, (line.get(open + 1..close)?, line.get(close + 1..)?))
        }
        None => {
            let (name, value) = line.split_once(' ')?;
            (name, ("", value))
        }
    };
    let (labels, value) = rest;
    let value = value.split_whitespace().next()?.parse().ok()?;
    // Our label values have no commas and no escapes.
    let labels = labels
        .split(',')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        })
        .collect();
    Some(Sample { name: head.to_owned(), labels, value })
}

/// The conservation sum (C7) over the pages of all nodes: sent + again = handled + in flight + dead-lettered + lost, each side as the
/// nodes count it (`ringfleet_node::metrics`). A client sends when its message is accepted and handles when a reply is handed to its link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Conservation {
    /// Messages sent: by handlers, replies and timers included, and by clients.
    pub sent: i128,
    /// Messages between nodes that were accepted, and whose sender was not told: they count twice on the other side. While a channel
    /// stands those in transit, later those that were handled as it broke, which their senders report lost (docs/metrics.md).
    pub again: i128,
    /// Messages handled: by actors, and replies by clients.
    pub handled: i128,
    /// Messages in rings, spills, timers and links.
    pub in_flight: i128,
    /// Messages dead-lettered by workers and agents.
    pub dead_lettered: i128,
    /// Messages reported lost.
    pub lost: i128,
}

/// A metric, how often it counts, and for which part of the sum.
type Part = (&'static str, i128, fn(&mut Conservation) -> &mut i128);

const PARTS: [Part; 8] = [
    ("ringfleet_messages_sent_total", 1, |sum| &mut sum.sent),
    ("ringfleet_agent_node_in_total", 1, |sum| &mut sum.again),
    ("ringfleet_agent_node_taken_back_total", -1, |sum| &mut sum.again),
    ("ringfleet_agent_node_out_total", -1, |sum| &mut sum.again),
    ("ringfleet_messages_handled_total", 1, |sum| &mut sum.handled),
    ("ringfleet_messages_in_flight", 1, |sum| &mut sum.in_flight),
    ("ringfleet_messages_dead_lettered_total", 1, |sum| &mut sum.dead_lettered),
    ("ringfleet_messages_lost_total", 1, |sum| &mut sum.lost),
];

impl Conservation {
    /// Adds a node's page. Says which counter is missing, if one is.
    pub fn add(&mut self, page: &Metrics) -> Result<(), String> {
        for (name, times, part) in PARTS {
            if !page.has(name) {
                return Err(format!("no {name} on the page"));
            }
            // A page may say anything.
            let part = part(self);
            *part = part.saturating_add(page.sum(name).saturating_mul(times));
        }
        Ok(())
    }

    /// C7: sent + again = handled + in flight + dead-lettered + lost.
    pub fn holds(&self) -> bool {
        let ends = [self.handled, self.in_flight, self.dead_lettered, self.lost];
        self.sent.saturating_add(self.again) == ends.into_iter().fold(0, i128::saturating_add)
    }
}

impl std::fmt::Display for Conservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, again, handled, in_flight, dead_lettered, lost } = self;
        let relation = if self.holds() { "=" } else { "!=" };
        write!(
            f,
            "sent {sent} + again {again} {relation} handled {handled} + in flight {in_flight} + dead-lettered {dead_lettered} + lost {lost}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP x y\n# TYPE x counter\nringfleet_messages_sent_total{device=\"0\",worker=\"0\"} 5\n\
        ringfleet_messages_sent_total{device=\"0\",worker=\"1\"} 3\nringfleet_messages_sent_total{by=\"client\"} 4\n\
        ringfleet_messages_handled_total{by=\"actor\"} 8\nringfleet_messages_handled_total{by=\"client\"} 1\n\
        ringfleet_messages_dead_lettered_total{reason=\"shard_full\"} 2\nringfleet_messages_lost_total 0\n\
        ringfleet_messages_in_flight{where=\"rings\"} 0\nringfleet_messages_in_flight{where=\"links\"} 1\n\
        ringfleet_agent_node_in_total 7\nringfleet_agent_node_taken_back_total 2\nringfleet_agent_node_out_total 5\n";

    #[test]
    fn pages_are_read_with_labels() {
        let page = Metrics::parse(PAGE);
        assert_eq!(page.sum("ringfleet_messages_sent_total"), 12);
        let labels: Vec<_> = page.named("ringfleet_messages_sent_total").map(|sample| sample.label("worker")).collect();
        assert_eq!(labels, [Some("0"), Some("1"), None]);
        assert!(!page.has("ringfleet_other"));
    }

    #[test]
    fn the_sum_is_checked_and_a_damaged_one_is_seen() {
        let mut sum = Conservation::default();
        sum.add(&Metrics::parse(PAGE)).expect("complete");
        assert!(sum.holds(), "{sum}");
        assert_eq!(sum.to_string(), "sent 12 + again 0 = handled 9 + in flight 1 + dead-lettered 2 + lost 0");
        sum.handled += 1;
        assert!(!sum.holds());
        assert!(sum.to_string().contains("sent 12 + again 0 != handled 10"));
        assert!(Conservation::default().add(&Metrics::parse("x 1")).is_err());
        for (name, ..) in PARTS {
            let without: String =
                PAGE.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect();
            let missing = Conservation::default().add(&Metrics::parse(&without)).expect_err(name);
            assert!(missing.contains(name), "{missing}");
        }
    }

    #[test]
    fn a_message_that_was_handled_and_reported_lost_counts_twice_on_both_sides() {
        let page = PAGE.replace("node_out_total 5", "node_out_total 4").replace("lost_total 0", "lost_total 1");
        let mut sum = Conservation::default();
        sum.add(&Metrics::parse(&page)).expect("complete");
        assert_eq!((sum.again, sum.lost), (1, 1));
        assert!(sum.holds(), "{sum}");
    }
}
