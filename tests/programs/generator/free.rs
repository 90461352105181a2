//! Free functions: one list of them for all types, in two modules. Each may call those before it.

use super::{NOTHING, Random, Shape, Var, Writer, constants, function};

/// How many there are.
pub const ALL: usize = 7;
/// Heads, with what they are given. Every other one is in the module `far`.
const FREE: [(&str, Shape); ALL] = [
    ("pub fn g0(a: i32, b: u64) -> i64", Shape { gives: Some("i64"), vars: &[("a", "i32"), ("b", "u64")], ..NOTHING }),
    (
        "pub fn g1(rows: &[i32; 8], i: usize) -> i32",
        Shape { gives: Some("i32"), vars: &[("i", "usize"), ("rows[5]", "i32")], ..NOTHING },
    ),
    ("pub fn g2(a: f64, b: f64) -> f64", Shape { gives: Some("f64"), vars: &[("a", "f64"), ("b", "f64")], ..NOTHING }),
    (
        "pub fn g3(p: &Pt, rows: &mut [u32; 4], at: usize) -> f32",
        Shape {
            gives: Some("f32"),
            vars: &[("p.k", "i32"), ("p.w", "f32"), ("rows[1]", "u32"), ("at", "usize")],
            first: "        rows[at % 4] = rows[at % 4].rotate_left(3) ^ 9;\n",
            ..NOTHING
        },
    ),
    (
        "pub fn g4(way: Mode, n: i32) -> Mode",
        Shape { gives: Some("Mode"), vars: &[("way", "Mode"), ("n", "i32")], ..NOTHING },
    ),
    (
        "pub fn g5(a: u32, ctx: &mut Ctx) -> u64",
        Shape { gives: Some("u64"), vars: &[("a", "u32")], ctx: true, ..NOTHING },
    ),
    (
        "pub fn g6(mut seen: Seen, x: f64) -> (i64, f64)",
        Shape {
            gives: Some("(i64, f64)"),
            vars: &[("seen", "Seen"), ("x", "f64")],
            first: "        seen.at.k = seen.at.k.wrapping_add(1);\n",
            ..NOTHING
        },
    ),
];
/// The text of the free functions and of the constants that they name.
pub fn functions(random: &mut Random) -> String {
    let mut near = constants(random).replace("    const", "const");
    let mut far = String::from("pub mod far {\n    use super::*;\n");
    for (at, (head, shape)) in FREE.iter().enumerate() {
        let stmts = 1 + random.below(4);
        let shape = Shape { free: at, sends_nothing: true, ..*shape };
        // They have no `Self`: constants stand beside them.
        let text = function(random, head, &shape, false, stmts).replace("Self::", "");
        let module = if at % 2 == 0 { &mut near } else { &mut far };
        module.push_str("    #[device_fn]\n");
        module.push_str(&text);
    }
    near + &far + "}\n"
}

impl Writer<'_> {
    /// The value of a free function, if there is one of this type that may be called.
    pub fn free_value(&mut self, ty: &'static str, d: usize) -> String {
        match ty {
            "i64" if self.free > 6 && self.random.one_in(2) => {
                let seen = self.compound("Seen");
                format!("g6({seen}, {}).0", self.expr("f64", d))
            }
            "i64" if self.free > 0 => format!("g0({}, {})", self.expr("i32", d), self.expr("u64", d)),
            "i32" if self.free > 1 && self.own => {
                let pure = std::mem::replace(&mut self.pure, true);
                let text = format!("far::g1(&self.tab, {})", self.index(8, d));
                self.pure = pure;
                text
            }
            "f64" if self.free > 2 => format!("g2({}, {})", self.expr(ty, d), self.expr(ty, d)),
            "Mode" if self.free > 4 => format!("g4({}, {})", self.expr(ty, d), self.expr("i32", d)),
            _ => self.leaf(ty),
        }
    }

    /// Calls of free functions that take references, or the `ctx`.
    pub fn free_call(&mut self) {
        let (name, local) = (self.new_name(), self.new_name());
        if self.free > 5 && self.ctx && self.random.one_in(2) {
            let value = self.expr("u32", 2);
            self.line(&format!("let {name}: u64 = far::g5({value}, ctx);"));
            self.vars.push(Var { name, ty: "u64", mutable: false });
        } else {
            let (value, point, at) = (self.compound("[u32; 4]"), self.compound("Pt"), self.expr("usize", 1));
            self.line(&format!("let mut {local}: [u32; 4] = {value};"));
            self.line(&format!("let {name}: Pt = {point};"));
            self.line(&format!("let {name}: f32 = far::g3(&{name}, &mut {local}, {at});"));
            self.vars.push(Var { name, ty: "f32", mutable: false });
            self.vars.push(Var { name: local, ty: "[u32; 4]", mutable: true });
        }
    }
}
