//! The results and how they print: exact integers, compared as they are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

use super::ONE;
use super::list::Graph;

/// Rows of the tables that are printed.
pub const TOP: usize = 15;

/// All results, by vertex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// PageRank in fixed point.
    pub ranks: Vec<u64>,
    /// By how much all ranks together changed in the last round.
    pub moved: u64,
    /// The lowest vertex of the component.
    pub components: Vec<u32>,
}

impl Results {
    /// The first difference to `other` in words; `None` if they are equal.
    #[must_use]
    pub fn difference(&self, other: &Results) -> Option<String> {
        first_difference("rank", &self.ranks, &other.ranks)
            .or_else(|| first_difference("component", &self.components, &other.components))
            .or_else(|| (self.moved != other.moved).then(|| format!("moved: {} is not {}", self.moved, other.moved)))
    }

    /// The greatest distance between a rank and that of a computation in floating point, relative to the latter.
    #[must_use]
    pub fn float_error(&self, floats: &[f64]) -> f64 {
        let relative = |(rank, float): (&u64, &f64)| (*rank as f64 / ONE as f64 - float).abs() / float;
        self.ranks.iter().zip(floats).map(relative).fold(0.0, f64::max)
    }

    /// Components by size, the largest first: the lowest vertex, and how many there are.
    #[must_use]
    pub fn sizes(&self) -> Vec<(u32, u64)> {
        let mut sizes = BTreeMap::new();
        self.components.iter().for_each(|component| *sizes.entry(*component).or_default() += 1);
        let mut sizes: Vec<(u32, u64)> = sizes.into_iter().collect();
        sizes.sort_by_key(|(component, size)| (Reverse(*size), *component));
        sizes
    }

    /// The results with the names of their vertices, for printing.
    #[must_use]
    pub fn tables<'a>(&'a self, graph: &'a Graph) -> impl Display + 'a {
        Tables { results: self, graph }
    }
}

fn first_difference<T: PartialEq + Display>(what: &str, a: &[T], b: &[T]) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("{what}: {} vertices are not {}", a.len(), b.len()));
    }
    let (vertex, (a, b)) = a.iter().zip(b).enumerate().find(|(_, (a, b))| a != b)?;
    Some(format!("{what} of vertex {vertex}: {a} is not {b}"))
}

/// A part of [`ONE`] in millionths, six digits after the point.
struct Rank(u64);

impl Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millionths = (u128::from(self.0) * 1_000_000 + u128::from(ONE) / 2) / u128::from(ONE);
        f.pad(&format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000))
    }
}

struct Tables<'a> {
    results: &'a Results,
    graph: &'a Graph,
}

impl Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { results, graph } = self;
        let mut incoming = vec![0_u32; results.ranks.len()];
        graph.to.iter().flatten().for_each(|to| incoming[*to as usize] += 1);
        let mut order: Vec<usize> = (0..results.ranks.len()).collect();
        order.sort_by_key(|vertex| (Reverse(results.ranks[*vertex]), *vertex));
        writeln!(f, "HIGHEST RANKS")?;
        writeln!(f, "{:>9} {:>9} {:>6} {:>6}  name", "rank", "vertex", "in", "out")?;
        for vertex in order.into_iter().take(TOP) {
            let (rank, out) = (Rank(results.ranks[vertex]), graph.to[vertex].len());
            writeln!(f, "{rank:>9} {vertex:>9} {:>6} {out:>6}  {}", incoming[vertex], graph.names[vertex])?;
        }
        let together: u64 = results.ranks.iter().sum();
        writeln!(f, "all together {}, changed by {} in the last round", Rank(together), Rank(results.moved))?;

        let sizes = results.sizes();
        let alone = sizes.iter().filter(|(_, size)| *size == 1).count();
        writeln!(f, "\nLARGEST COMPONENTS")?;
        writeln!(f, "{:>9} {:>9}  lowest vertex", "vertices", "vertex")?;
        for (component, size) in sizes.iter().take(TOP) {
            writeln!(f, "{size:>9} {component:>9}  {}", graph.names[*component as usize])?;
        }
        writeln!(f, "{} components, {alone} of them of one vertex\n", sizes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_its_vertex() {
        let a = Results { ranks: vec![1, 2], moved: 3, components: vec![0, 0] };
        assert_eq!(a.difference(&a), None);
        let say = |b: &Results| a.difference(b).expect("they differ");
        assert_eq!(say(&Results { ranks: vec![1, 3], ..a.clone() }), "rank of vertex 1: 2 is not 3");
        assert_eq!(say(&Results { ranks: vec![1], ..a.clone() }), "rank: 2 vertices are not 1");
        assert_eq!(say(&Results { components: vec![0, 1], ..a.clone() }), "component of vertex 1: 0 is not 1");
        assert_eq!(say(&Results { moved: 4, ..a.clone() }), "moved: 3 is not 4");
    }

    #[test]
    fn tables_are_ranked_and_counted() {
        let graph = Graph::of_edges(4, &[(0, 2), (1, 2)]);
        let results =
            Results { ranks: vec![ONE / 8, ONE / 8, ONE / 2, ONE / 4], moved: 1, components: vec![0, 0, 0, 3] };
        let shown = results.tables(&graph).to_string();
        let expected = "HIGHEST RANKS\n     rank    vertex     in    out  name\n 0.500000         2      2      0  2\n \
                        0.250000         3      0      0  3\n 0.125000         0      0      1  0\n \
                        0.125000         1      0      1  1\nall together 1.000000, changed by 0.000000 in the last round\n\n\
                        LARGEST COMPONENTS\n vertices    vertex  lowest vertex\n        3         0  0\n        \
                        1         3  3\n2 components, 1 of them of one vertex\n\n";
        assert_eq!(shown, expected);
        assert!(results.float_error(&[0.125, 0.125, 0.5, 0.2]) > 0.2);
    }
}
