//! Output: data to stdout as a table, JSON or YAML; everything else to stderr.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::{CtlError, CtlResult};

/// The form of what a verb prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// One JSON value with stable field names.
    Json,
    /// The same value as YAML.
    Yaml,
}

/// Rows under headings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row. It has as many cells as there are headings.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        assert_eq!(row.len(), self.headings.len(), "a row has as many cells as there are headings");
        self.rows.push(row);
    }

    /// Aligned text. Columns whose cells are all numbers are aligned to the right.
    pub fn render(&self) -> String {
        let columns = self.headings.len();
        let width =
            |at: usize| self.rows.iter().chain([&self.headings]).map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let numeric: Vec<bool> = (0..columns).map(|at| self.is_numeric(at)).collect();
        let mut text = String::new();
        for row in [&self.headings].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[at] - cell.chars().count());
                let gap = if at == 0 { "" } else { "  " };
                line += gap;
                line += &if numeric[at] { pad + cell } else { cell.clone() + &pad };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    fn is_numeric(&self, at: usize) -> bool {
        let number = |cell: &str| {
            cell == "-" || cell.chars().all(|c| c.is_ascii_digit() || "+-.,%".contains(c)) && !cell.is_empty()
        };
        !self.rows.is_empty() && self.rows.iter().all(|row| number(&row[at]))
    }
}

/// `name: value` lines, aligned.
pub fn properties(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    pairs.iter().map(|(name, value)| format!("{:width$} {value}\n", format!("{name}:"))).collect()
}

/// Writes text to stdout. A reader that went away (`| head`) ends the verb quietly, as it should.
pub fn write_text(text: &str) -> CtlResult {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CtlError::failed("writing to stdout", error)),
        _ => Ok(()),
    }
}

/// Prints `value` in the wanted form; `table` makes the text for people.
pub fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> CtlResult {
    write_text(&render(format, value, table)?)
}

fn render<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> CtlResult<String> {
    // YAML goes through the JSON value, so that both have the same shape (YAML would write enums as tags).
    let json = |value: &T| serde_json::to_value(value).map_err(|error| CtlError::failed("writing the output", error));
    Ok(match format {
        Format::Table => table(value),
        Format::Json => format!("{:#}\n", json(value)?),
        Format::Yaml => {
            serde_yaml_ng::to_string(&json(value)?).map_err(|error| CtlError::failed("writing the output", error))?
        }
    })
}

/// A count with thousands separated, for people.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_text_left_and_numbers_right() {
        let mut table = Table::new(&["NAME", "SHARDS"]);
        table.row(["a".to_owned(), "256".to_owned()]);
        table.row(["flights".to_owned(), "8".to_owned()]);
        assert_eq!(table.render(), "NAME     SHARDS\na           256\nflights       8\n");
    }

    #[test]
    fn the_three_forms_show_the_same_value() {
        #[derive(Serialize)]
        struct Thing {
            name: &'static str,
            state: Option<u8>,
        }
        let thing = Thing { name: "x", state: Some(3) };
        let form = |format| render(format, &thing, |t| format!("{}\n", t.name)).expect("renders");
        assert_eq!(form(Format::Table), "x\n");
        assert_eq!(form(Format::Json), "{\n  \"name\": \"x\",\n  \"state\": 3\n}\n");
        assert_eq!(form(Format::Yaml), "name: x\nstate: 3\n");
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 336_776, 1_234_567].map(thousands), ["0", "999", "1,000", "336,776", "1,234,567"]);
    }

    #[test]
    fn properties_line_up() {
        assert_eq!(properties(&[("a", "1".into()), ("long", "2".into())]), "a:    1\nlong: 2\n");
    }
}
