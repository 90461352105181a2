//! The same results computed one after the other, written independently of the actors: arrays instead of messages, union-find instead of labels.

use super::ONE;
use super::list::Graph;
use super::tables::Results;

/// Ranks and components after so many rounds of PageRank.
#[must_use]
pub fn results(graph: &Graph, rounds: u32) -> Results {
    let (ranks, moved) = ranks(graph, rounds);
    Results { ranks, moved, components: components(graph) }
}

/// PageRank in fixed point, as the [module](super) defines it; and by how much all ranks changed in the last round.
fn ranks(graph: &Graph, rounds: u32) -> (Vec<u64>, u64) {
    let n = graph.names.len() as u128;
    let handed_on = |x: u128| x * 85 / 100;
    let first = u128::from(ONE) / n;
    let mut ranks = vec![first; graph.names.len()];
    let mut moved = first * n;
    for _ in 0..rounds {
        let mut heard = vec![0_u128; ranks.len()];
        let mut loose = 0;
        for (rank, to) in ranks.iter().zip(&graph.to) {
            let degree = to.len() as u128;
            let share = rank.checked_div(degree).unwrap_or(0);
            to.iter().for_each(|to| heard[*to as usize] += share);
            loose += rank - share * degree;
        }
        let base = (u128::from(ONE) * 15 / 100 + handed_on(loose)) / n;
        let next: Vec<u128> = heard.into_iter().map(|heard| base + handed_on(heard)).collect();
        moved = ranks.iter().zip(&next).map(|(was, is)| was.abs_diff(*is)).sum();
        ranks = next;
    }
    // All of them together are `ONE` at most.
    (ranks.into_iter().map(|rank| rank as u64).collect(), moved as u64)
}

/// PageRank in floating point: what the fixed point is close to.
#[must_use]
pub fn float_ranks(graph: &Graph, rounds: u32) -> Vec<f64> {
    let n = graph.names.len() as f64;
    let mut ranks = vec![1.0 / n; graph.names.len()];
    for _ in 0..rounds {
        let loose: f64 = ranks.iter().zip(&graph.to).filter(|(_, to)| to.is_empty()).map(|(rank, _)| rank).sum();
        let mut next = vec![(0.15 + 0.85 * loose) / n; ranks.len()];
        for (rank, to) in ranks.iter().zip(&graph.to) {
            to.iter().for_each(|target| next[*target as usize] += 0.85 * rank / to.len() as f64);
        }
        ranks = next;
    }
    ranks
}

/// The lowest vertex of each vertex's component, by union-find.
fn components(graph: &Graph) -> Vec<u32> {
    let mut parents: Vec<u32> = (0..graph.vertices()).collect();
    for (from, to) in graph.to.iter().enumerate() {
        for to in to {
            let (a, b) = (root(&mut parents, from as u32), root(&mut parents, *to));
            // The lower one, so that a root is the lowest of its tree.
            parents[a.max(b) as usize] = a.min(b);
        }
    }
    (0..graph.vertices()).map(|vertex| root(&mut parents, vertex)).collect()
}

/// Halves the path on the way.
fn root(parents: &mut [u32], mut vertex: u32) -> u32 {
    while parents[vertex as usize] != vertex {
        parents[vertex as usize] = parents[parents[vertex as usize] as usize];
        vertex = parents[vertex as usize];
    }
    vertex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_that_can_be_worked_out_by_hand() {
        // Two vertices that point at each other keep what they have, but for what divisions lose.
        let Results { ranks, moved, components } = results(&Graph::of_edges(2, &[(0, 1), (1, 0)]), 50);
        assert!(ranks.iter().all(|rank| ONE / 2 - rank < 200), "{ranks:?}");
        assert!(moved < 10, "{moved}");
        assert_eq!(components, [0, 0]);
        // One round of a -> b: a has no more than everybody has.
        let Results { ranks, .. } = results(&Graph::of_edges(2, &[(0, 1)]), 1);
        let base = (ONE * 15 / 100 + ONE / 200 * 85) / 2;
        assert!(ranks[0].abs_diff(base) < 200 && ranks[1].abs_diff(base + ONE / 200 * 85) < 200, "{ranks:?}");
        assert!(ONE - ranks.iter().sum::<u64>() < 200);
    }

    #[test]
    fn components_are_called_by_their_lowest_vertex() {
        let graph = Graph::of_edges(8, &[(7, 5), (5, 3), (6, 6), (2, 1), (1, 4), (4, 2)]);
        assert_eq!(results(&graph, 0).components, [0, 1, 1, 3, 1, 3, 6, 3]);
    }
}
