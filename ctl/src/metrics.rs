//! The text of a `/metrics` page, and the conservation sum (C7) over the pages of all nodes.

use serde::Serialize;

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

/// The conservation sum (C7) over the pages of all nodes: sent = handled + in flight + dead-lettered + lost, each side as the nodes
/// count it (`ringfleet_node::metrics`). A client sends when its message is accepted and handles when a reply is handed to its link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Conservation {
    /// Messages sent: by handlers, replies and timers included, and by clients.
    pub sent: i128,
    /// Messages handled: by actors, and replies by clients.
    pub handled: i128,
    /// Messages in rings, spills, timers and links.
    pub in_flight: i128,
    /// Messages dead-lettered by workers and agents.
    pub dead_lettered: i128,
    /// Messages reported lost.
    pub lost: i128,
}

/// A side of the sum and the metric that it is.
type Side = (&'static str, fn(&mut Conservation) -> &mut i128);

const SIDES: [Side; 5] = [
    ("ringfleet_messages_sent_total", |sum| &mut sum.sent),
    ("ringfleet_messages_handled_total", |sum| &mut sum.handled),
    ("ringfleet_messages_in_flight", |sum| &mut sum.in_flight),
    ("ringfleet_messages_dead_lettered_total", |sum| &mut sum.dead_lettered),
    ("ringfleet_messages_lost_total", |sum| &mut sum.lost),
];

impl Conservation {
    /// Adds a node's page. Says which counter is missing, if one is.
    pub fn add(&mut self, page: &Metrics) -> Result<(), String> {
        for (name, side) in SIDES {
            if !page.has(name) {
                return Err(format!("no {name} on the page"));
            }
            *side(self) += page.sum(name);
        }
        Ok(())
    }

    /// C7: sent = handled + in flight + dead-lettered + lost.
    pub fn holds(&self) -> bool {
        self.sent == self.handled + self.in_flight + self.dead_lettered + self.lost
    }
}

impl std::fmt::Display for Conservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, handled, in_flight, dead_lettered, lost } = self;
        let relation = if self.holds() { "=" } else { "!=" };
        write!(
            f,
            "sent {sent} {relation} handled {handled} + in flight {in_flight} + dead-lettered {dead_lettered} + lost {lost}"
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
        ringfleet_messages_in_flight{where=\"rings\"} 0\nringfleet_messages_in_flight{where=\"links\"} 1\n";

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
        assert_eq!(sum.to_string(), "sent 12 = handled 9 + in flight 1 + dead-lettered 2 + lost 0");
        sum.handled += 1;
        assert!(!sum.holds());
        assert!(sum.to_string().contains("sent 12 != handled 10"));
        assert!(Conservation::default().add(&Metrics::parse("x 1")).is_err());
    }
}
