//! Locals that have parts: structs, tuples, arrays.

use super::{Var, Writer};

/// Types of such locals: what reads a part (with an index at `#`), its type, and how many elements there are to index.
const PARTS: [(&str, &str, &str, usize); 10] = [
    ("Pt", ".k", "i32", 0),
    ("Pt", ".w", "f32", 0),
    ("(i32, f64)", ".0", "i32", 0),
    ("(i32, f64)", ".1", "f64", 0),
    ("[u32; 4]", "[#]", "u32", 4),
    ("[Mode; 3]", "[#]", "Mode", 3),
    ("[u8; Self::LEN]", "[#]", "u8", 5),
    ("Seen", ".at.k", "i32", 0),
    ("Seen", ".wind", "Wind", 0),
    ("Seen", ".modes[#]", "Mode", 2),
];
const TYPES: [&str; 6] = ["Pt", "(i32, f64)", "[u32; 4]", "[Mode; 3]", "[u8; Self::LEN]", "Seen"];

/// Whether values of the type have parts.
pub fn has_parts(ty: &str) -> bool {
    TYPES.contains(&ty) || ty == "(i64, f64)"
}

impl Writer<'_> {
    /// A value that is a part of another, if there is a type that has such a part.
    pub fn part(&mut self, ty: &'static str, d: usize) -> String {
        let mut known = Vec::new();
        for var in self.visible() {
            let of = PARTS.iter().filter(|part| part.0 == var.ty && part.2 == ty);
            known.extend(of.map(|part| (var.name.clone(), part.1, part.3)));
        }
        if !known.is_empty() && !self.random.one_in(4) {
            let (name, how, len) = self.random.pick(&known).clone();
            return self.indexed(&format!("{name}{how}"), len, d);
        }
        match self.random.below(3) {
            0 => {
                let (value, other) = (self.expr(ty, d), self.expr("u16", d.min(1)));
                format!("({value}, {other}).0")
            }
            1 => {
                let (a, b, c) = (self.expr(ty, d), self.leaf(ty), self.leaf(ty));
                format!("[{a}, {b}, {c}][{}]", self.index(3, d.min(1)))
            }
            _ => self.leaf(ty),
        }
    }

    fn indexed(&mut self, place: &str, len: usize, d: usize) -> String {
        if len == 0 { place.to_owned() } else { place.replace('#', &self.index(len, d.min(1))) }
    }

    /// A value with parts.
    pub fn compound(&mut self, ty: &'static str) -> String {
        let known: Vec<String> = self.visible().filter(|var| var.ty == ty).map(|var| var.name.clone()).collect();
        if !known.is_empty() && self.random.one_in(3) {
            return self.random.pick(&known).clone();
        }
        let copied = self.own && self.random.one_in(2);
        match ty {
            "Pt" if copied => {
                let at = self.index(3, 1);
                (*self.random.pick(&[format!("self.pts[{at}]"), "self.seen.at".into(), "self.log[1].at".into()]))
                    .clone()
            }
            "Pt" => format!("Pt {{ w: {}, k: {} }}", self.expr("f32", 2), self.expr("i32", 2)),
            "(i32, f64)" => format!("({}, {})", self.expr("i32", 2), self.expr("f64", 2)),
            "(i64, f64)" => format!("({}, {})", self.expr("i64", 2), self.expr("f64", 2)),
            "[u32; 4]" => match self.random.below(3) {
                0 => "Self::ROWS".to_owned(),
                1 => format!("[{}; 4]", self.expr("u32", 2)),
                _ => {
                    let list: Vec<String> = (0..4).map(|_| self.expr("u32", 1)).collect();
                    format!("[{}]", list.join(", "))
                }
            },
            "[Mode; 3]" if copied => "self.modes".to_owned(),
            "[Mode; 3]" => {
                let list: Vec<String> = (0..3).map(|_| self.expr("Mode", 1)).collect();
                format!("[{}]", list.join(", "))
            }
            "[u8; Self::LEN]" => format!("[{}; Self::LEN]", self.expr("u8", 2)),
            _ if copied => {
                let at = self.index(2, 1);
                (*self.random.pick(&[format!("self.log[{at}]"), "self.seen".to_owned()])).clone()
            }
            _ => {
                let (why, wind, at) = (self.expr("Why", 1), self.expr("Wind", 1), self.compound("Pt"));
                let (a, b) = (self.expr("Mode", 1), self.expr("Mode", 1));
                format!("Seen {{ at: {at}, wind: {wind}, modes: [{a}, {b}], why: {why} }}")
            }
        }
    }

    pub fn let_compound(&mut self) {
        let ty = *self.random.pick(&TYPES);
        let value = self.compound(ty);
        let (name, mutable) = (self.new_name(), !self.random.one_in(3));
        self.line(&format!("let {}{name}: {ty} = {value};", if mutable { "mut " } else { "" }));
        self.vars.push(Var { name, ty, mutable });
    }

    /// Changes a part of a local, a whole local, or a whole part of the state.
    pub fn assign_compound(&mut self) {
        let known: Vec<(String, &'static str)> = self
            .visible()
            .filter(|var| var.mutable && has_parts(var.ty))
            .map(|var| (var.name.clone(), var.ty))
            .collect();
        if known.is_empty() || (self.own_mut && self.random.one_in(3)) {
            if self.own_mut {
                let at = self.index(2, 1);
                let (place, ty) = match self.random.below(4) {
                    0 => ("self.seen".to_owned(), "Seen"),
                    1 => (format!("self.log[{at}]"), "Seen"),
                    2 => (format!("self.pts[{at}]"), "Pt"),
                    _ => ("self.modes".to_owned(), "[Mode; 3]"),
                };
                let value = self.compound(ty);
                self.line(&format!("{place} = {value};"));
            }
            return;
        }
        let (name, ty) = self.random.pick(&known).clone();
        if self.random.one_in(4) {
            let value = self.compound(ty);
            return self.line(&format!("{name} = {value};"));
        }
        let parts: Vec<_> = PARTS.iter().filter(|part| part.0 == ty).collect();
        let (_, how, part, len) = **self.random.pick(&parts);
        let value = self.expr(part, 2);
        let place = self.indexed(&format!("{name}{how}"), len, 1);
        let op = self.assign_op(part);
        self.assignment(&place, part, op, &value);
    }
}
