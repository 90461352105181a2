//! A graph from text: lines of comment that begin with `#`, the line [`HEADER`], and a line for each vertex: its name, a tab, and the vertices that
//! its edges lead to, by number, separated by spaces. Vertices are numbered from 0 in the order of their lines.

use super::VERTICES_MAX;

/// The first line that is no comment.
pub const HEADER: &str = "vertex\tto";
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// A directed graph with names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// The names of the vertices, in their order. They need not differ.
    pub names: Vec<String>,
    /// For each vertex where its edges lead.
    pub to: Vec<Vec<u32>>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListProblem {
    /// Not text.
    #[error("not UTF-8")]
    NotUtf8,
    /// The first line that is no comment says something else.
    #[error("its first line after comments must be vertex<tab>to")]
    NoHeader,
    /// There is no vertex.
    #[error("no vertices in it")]
    Empty,
    /// No tab, or more than one.
    #[error("expected a name, a tab, and numbers of vertices")]
    NotAVertex,
    /// A name that is empty or too long.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    /// Something that is not the number of a vertex.
    #[error("`{text}` is not the number of a vertex")]
    NotANumber {
        /// What stands there, cut after 24 characters.
        text: String,
    },
    /// An edge that leads nowhere.
    #[error("an edge leads to vertex {to}, and there are {vertices}")]
    NoSuchVertex {
        /// Where it leads.
        to: u32,
        /// How many vertices there are.
        vertices: usize,
    },
    /// More vertices than there may be.
    #[error("more than {VERTICES_MAX} vertices")]
    TooManyVertices,
}

/// What is wrong with a list, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ListError {
    /// The number of the line, from 1.
    pub line: u64,
    /// What is wrong.
    pub what: ListProblem,
}

impl Graph {
    /// Reads a list.
    ///
    /// # Errors
    /// The first line that is wrong. A graph with a hole in it is another graph, so none is skipped.
    pub fn parse(list: &[u8]) -> Result<Self, ListError> {
        let mut graph = Self::default();
        let mut vertex_lines = Vec::new();
        let (mut has_header, mut last) = (false, 1);
        for (at, line) in list.split(|byte| *byte == b'\n').enumerate() {
            let number = at as u64 + 1;
            let wrong = |what| ListError { line: number, what };
            let line = std::str::from_utf8(line).map_err(|_| wrong(ListProblem::NotUtf8))?;
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() || line.starts_with('#') && !has_header {
                continue;
            }
            last = number;
            if !has_header {
                if line != HEADER {
                    return Err(wrong(ListProblem::NoHeader));
                }
                has_header = true;
                continue;
            }
            let (name, to) = vertex(line).map_err(wrong)?;
            if graph.names.len() == VERTICES_MAX {
                return Err(wrong(ListProblem::TooManyVertices));
            }
            graph.names.push(name);
            graph.to.push(to);
            vertex_lines.push(number);
        }
        let vertices = graph.names.len();
        if vertices == 0 {
            let what = if has_header { ListProblem::Empty } else { ListProblem::NoHeader };
            return Err(ListError { line: last, what });
        }
        for (line, to) in vertex_lines.into_iter().zip(&graph.to) {
            if let Some(&to) = to.iter().find(|to| **to as usize >= vertices) {
                return Err(ListError { line, what: ListProblem::NoSuchVertex { to, vertices } });
            }
        }
        Ok(graph)
    }

    /// A graph without names: vertex 3 is called `3`.
    #[must_use]
    pub fn of_edges(vertices: u32, edges: &[(u32, u32)]) -> Self {
        let mut to = vec![Vec::new(); vertices as usize];
        edges.iter().for_each(|(from, target)| to[*from as usize].push(*target));
        Self { names: (0..vertices).map(|vertex| vertex.to_string()).collect(), to }
    }

    /// How many vertices there are.
    #[must_use]
    pub fn vertices(&self) -> u32 {
        // `VERTICES_MAX` is below it.
        self.names.len() as u32
    }

    /// How many edges there are.
    #[must_use]
    pub fn edges(&self) -> u64 {
        self.to.iter().map(|to| to.len() as u64).sum()
    }

    /// The part of the graph between vertices whose names `keep` takes, numbered anew.
    #[must_use]
    pub fn part(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut part = Self::default();
        let mut numbers = vec![None; self.names.len()];
        for (name, number) in self.names.iter().zip(&mut numbers).filter(|(name, _)| keep(name)) {
            *number = Some(part.names.len() as u32);
            part.names.push(name.clone());
        }
        for to in self.to.iter().zip(&numbers).filter_map(|(to, number)| number.map(|_| to)) {
            part.to.push(to.iter().filter_map(|to| numbers[*to as usize]).collect());
        }
        part
    }
}

fn vertex(line: &str) -> Result<(String, Vec<u32>), ListProblem> {
    let (name, to) = line.split_once('\t').ok_or(ListProblem::NotAVertex)?;
    if to.contains('\t') {
        return Err(ListProblem::NotAVertex);
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(ListProblem::Name);
    }
    let number =
        |text: &str| text.parse::<u32>().map_err(|_| ListProblem::NotANumber { text: text.chars().take(24).collect() });
    let to = to.split(' ').filter(|text| !text.is_empty()).map(number).collect::<Result<_, _>>()?;
    Ok((name.to_owned(), to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let graph = Graph::parse(b"# a comment\n#another\nvertex\tto\na\t1 2\r\nb\t\nb\t2 0 0\n").expect("a good list");
        assert_eq!(graph.names, ["a", "b", "b"]);
        assert_eq!(graph.to, [vec![1, 2], vec![], vec![2, 0, 0]]);
        assert_eq!((graph.vertices(), graph.edges()), (3, 5));
        let part = graph.part(|name| name == "b");
        assert_eq!((part.vertices(), part.to), (2, vec![vec![], vec![1]]));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let say = |list: &[u8]| Graph::parse(list).expect_err("a bad list").to_string();
        assert_eq!(say(b""), "line 1: its first line after comments must be vertex<tab>to");
        assert_eq!(say(b"# only\n# comments\n"), "line 1: its first line after comments must be vertex<tab>to");
        assert_eq!(say(b"from,to\n0,1\n"), "line 1: its first line after comments must be vertex<tab>to");
        assert_eq!(say(b"# x\nvertex\tto\n"), "line 2: no vertices in it");
        assert_eq!(say(b"vertex\tto\na 1\n"), "line 2: expected a name, a tab, and numbers of vertices");
        assert_eq!(say(b"vertex\tto\na\t0\t0\n"), "line 2: expected a name, a tab, and numbers of vertices");
        assert_eq!(say(b"vertex\tto\n\t0\n"), "line 2: a name has 1 to 255 bytes");
        assert_eq!(say(b"vertex\tto\na\t0 -1\n"), "line 2: `-1` is not the number of a vertex");
        assert_eq!(say(b"vertex\tto\na\t4294967296\n"), "line 2: `4294967296` is not the number of a vertex");
        assert_eq!(say(b"vertex\tto\na\t1\nb\t2\n"), "line 3: an edge leads to vertex 2, and there are 2");
        assert_eq!(say(b"vertex\tto\na\t0\n\xff\t0\n"), "line 3: not UTF-8");
    }
}
