//! From a graph to the messages that load it: each edge goes to both its ends, since components look both ways.

use super::OUT;
use super::list::Graph;
use super::vertex::Edges;

/// The messages that load a graph, each with its vertex, in the order of the vertices. A vertex without edges gets none.
pub fn messages(graph: &Graph) -> impl Iterator<Item = (u32, Edges)> {
    let mut back = vec![Vec::new(); graph.to.len()];
    for (from, to) in graph.to.iter().enumerate() {
        to.iter().for_each(|to| back[*to as usize].push(from as u32));
    }
    graph.to.iter().zip(back).enumerate().flat_map(|(vertex, (to, back))| {
        let edges = ends(to, back);
        let messages: Vec<Edges> = edges.chunks(7).map(message).collect();
        messages.into_iter().map(move |message| (vertex as u32, message))
    })
}

/// The edges that a vertex keeps: all that lead away from it, and one for each other vertex that only leads to it.
fn ends(to: &[u32], mut back: Vec<u32>) -> Vec<u32> {
    let mut sorted = to.to_vec();
    sorted.sort_unstable();
    back.sort_unstable();
    back.dedup();
    back.retain(|from| sorted.binary_search(from).is_err());
    to.iter().map(|to| to | OUT).chain(back).collect()
}

fn message(edges: &[u32]) -> Edges {
    let mut to = [0; 7];
    to[..edges.len()].copy_from_slice(edges);
    Edges { count: edges.len() as u32, to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_get_an_edge_once_unless_it_is_given_twice() {
        let graph = Graph::of_edges(4, &[(0, 1), (1, 0), (2, 2), (0, 2), (0, 2)]);
        let loaded: Vec<_> = messages(&graph).map(|(vertex, m)| (vertex, m.to[..m.count as usize].to_vec())).collect();
        let out = |to: u32| to | OUT;
        let expected = vec![(0, vec![out(1), out(2), out(2)]), (1, vec![out(0)]), (2, vec![out(2), 0])];
        assert_eq!(loaded, expected);
    }

    #[test]
    fn many_edges_take_several_messages() {
        let edges: Vec<_> = (0..15).map(|to| (15, to)).collect();
        let counts: Vec<u32> =
            messages(&Graph::of_edges(16, &edges)).filter(|(vertex, _)| *vertex == 15).map(|(_, m)| m.count).collect();
        assert_eq!(counts, [7, 7, 1]);
    }
}
