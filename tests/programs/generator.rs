//! Writes random handlers: well-typed text of the subset, with faults that happen now and then.

use std::fmt::Write as _;

mod choices;
mod free;
mod parts;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

const INTS: [&str; 12] = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "usize", "isize", "u128", "i128"];
const FLOATS: [&str; 2] = ["f32", "f64"];

const HANDLERS: usize = 8;
/// One type of so many calls functions of `math`.
const MATH: usize = 4;

/// What all programs share.
const SHARED: &str = "
#[plain] #[derive(Default)] pub struct Pt { pub k: i32, pub w: f32 }
#[plain] #[repr(u8)] #[derive(Default)] pub enum Mode { #[default] Idle, Busy = 3, Late, Lost = 255 }
#[plain] #[repr(u16)] #[derive(Default)] pub enum Wind { #[default] Calm, East = 0x8000, West = 0xffff }
#[plain] #[repr(u32)] #[derive(Default)] pub enum Why { #[default] Nobody, Guest, Storm = 0xffff_ffff }
#[plain] #[derive(Default)] pub struct Seen { pub why: Why, pub wind: Wind, pub modes: [Mode; 2], pub at: Pt }
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
pub const FIRST: Mode = Mode::Late;
";

/// Enums with their variants.
const ENUMS: [(&str, &[&str]); 3] = [
    ("Mode", &["Mode::Idle", "Mode::Busy", "Mode::Late", "Mode::Lost"]),
    ("Wind", &["Wind::Calm", "Wind::East", "Wind::West"]),
    ("Why", &["Why::Nobody", "Why::Guest", "Why::Storm"]),
];

/// Fields of the state and of messages, by type.
const STATE: &str = "ub: u128, ib: i128, ua: u64, ia: i64, x: f64, uc: u32, ic: i32, y: f32, z: f32, tab: [i32; 8], grid: [[u16; 4]; 4], \
                     pts: [Pt; 3], wide: [f64; 4], seen: Seen, log: [Seen; 2], ue: u16, ie: i16, uf: u8, ig: i8, bytes: [u8; 6], \
                     mode: Mode, modes: [Mode; 3]";
const MESSAGE: &str = "p: i64, q: u64, r: i32, s: f32, t: u16, wind: Wind, v: u8, w: i8, mode: Mode, way: Mode";

fn fields(ty: &str) -> &'static [&'static str] {
    match ty {
        "u128" => &["self.ub"],
        "i128" => &["self.ib"],
        "u64" => &[
            "self.ua",
            "m.q",
            "ctx.key()",
            "ctx.now().wall_ms()",
            "ctx.sender().key",
            "ctx.random()",
            "Self::KEY",
            "STEP",
        ],
        "i64" => &["self.ia", "m.p"],
        "f64" => &["self.x", "self.wide[1]", "Self::SCALE"],
        "u32" => &["self.uc"],
        "i32" => &["self.ic", "m.r", "self.tab[2]", "self.pts[1].k", "self.log[1].at.k", "Self::LIMIT"],
        "f32" => &["self.y", "self.z", "m.s", "self.pts[0].w"],
        "u16" => &["self.ue", "m.t", "self.grid[1][2]"],
        "i16" => &["self.ie"],
        "u8" => &["self.uf", "m.v", "self.bytes[3]"],
        "i8" => &["self.ig", "m.w"],
        "usize" => &["Self::LEN"],
        "Mode" => &["self.mode", "self.modes[1]", "self.seen.modes[0]", "m.mode", "m.way", "Self::START", "FIRST"],
        "Wind" => &["self.seen.wind", "self.log[0].wind", "m.wind", "Self::PAIR.1"],
        "Why" => &["self.seen.why", "self.log[1].why", "Self::PAIR.0"],
        _ => &[],
    }
}

fn is_enum(ty: &str) -> bool {
    ENUMS.iter().any(|(name, _)| *name == ty)
}

fn bits(ty: &str) -> u32 {
    ty[1..].parse().unwrap_or(64)
}

struct Var {
    name: String,
    ty: &'static str,
    mutable: bool,
}

struct Writer<'a> {
    random: &'a mut Random,
    out: String,
    vars: Vec<Var>,
    depth: usize,
    /// In a handler: `m` is there.
    handler: bool,
    /// `ctx` is there.
    ctx: bool,
    /// `self` is there, and may be changed.
    own: bool,
    own_mut: bool,
    /// Calls of `self.h0` would be seen by someone who has borrowed a part of the state.
    pure: bool,
    helpers: bool,
    /// Helpers that call no others may be called.
    low: bool,
    /// Functions of `math` may be called.
    math: bool,
    /// So many free functions may be called.
    free: usize,
    sends_nothing: bool,
    names: usize,
    loops: usize,
    gives: Option<&'static str>,
}

fn number_ty(random: &mut Random) -> &'static str {
    // The common ones more often.
    if random.one_in(5) {
        FLOATS[random.below(2)]
    } else if random.one_in(2) {
        random.pick::<&str>(&["i32", "u32", "i64", "u64"])
    } else {
        INTS[random.below(INTS.len())]
    }
}

impl Writer<'_> {
    fn literal(&mut self, ty: &str) -> String {
        if ty == "f32" || ty == "f64" {
            let value =
                *self.random.pick(&["0.0", "1.0", "0.5", "1.5e3", "3.25", "1e-7", "123456.789", "2.5e9", "0.1"]);
            return format!("{value}{ty}");
        }
        if ty == "bool" {
            return (if self.random.one_in(2) { "true" } else { "false" }).to_owned();
        }
        if is_enum(ty) {
            return self.variant(ty);
        }
        let signed = ty.starts_with('i');
        match self.random.below(12) {
            0 => format!("{ty}::MAX"),
            1 => format!("{ty}::MIN"),
            2 if signed => format!("(-{}{ty})", 1 + self.random.below(100)),
            3 => format!("{}{ty}", 100 + self.random.below(27)),
            _ => format!("{}{ty}", self.random.below(12)),
        }
    }

    /// The locals that no later one hides.
    fn visible(&self) -> impl Iterator<Item = &Var> {
        let hidden = |at: usize| self.vars[at + 1..].iter().any(|later| later.name == self.vars[at].name);
        self.vars.iter().enumerate().filter(move |(at, _)| !hidden(*at)).map(|(_, var)| var)
    }

    fn leaf(&mut self, ty: &str) -> String {
        let vars: Vec<String> = self.visible().filter(|var| var.ty == ty).map(|var| var.name.clone()).collect();
        if !vars.is_empty() && !self.random.one_in(3) {
            return self.random.pick(&vars).clone();
        }
        let there = |field: &&str| match field.split('.').next() {
            Some("self") => self.own,
            Some("m") => self.handler,
            Some("ctx") => self.ctx,
            _ => true,
        };
        let known: Vec<&str> = fields(ty).iter().copied().filter(there).collect();
        if !known.is_empty() && !self.random.one_in(4) {
            (*self.random.pick(&known)).to_owned()
        } else {
            self.literal(ty)
        }
    }

    fn expr(&mut self, ty: &'static str, depth: usize) -> String {
        if parts::has_parts(ty) {
            return self.compound(ty);
        }
        if depth == 0 {
            return self.leaf(ty);
        }
        match ty {
            _ if is_enum(ty) => self.enum_expr(ty, depth),
            "bool" => self.bool_expr(depth),
            "f32" | "f64" => self.float_expr(ty, depth),
            _ => self.int_expr(ty, depth),
        }
    }

    fn bool_expr(&mut self, depth: usize) -> String {
        let d = depth - 1;
        match self.random.below(12) {
            0 => format!("({} && {})", self.expr("bool", d), self.expr("bool", d)),
            1 => format!("({} || {})", self.expr("bool", d), self.expr("bool", d)),
            2 => format!("!{}", self.expr("bool", d)),
            3 => format!("({} ^ {})", self.expr("bool", d), self.expr("bool", d)),
            4 => {
                let ty = *self.random.pick(&FLOATS);
                let method = *self.random.pick(&["is_nan", "is_finite", "is_infinite"]);
                format!("({}).{method}()", self.expr(ty, d))
            }
            5 => {
                let ty = *self.random.pick(&INTS);
                let (a, b) = (self.expr(ty, d), self.expr(ty, d));
                format!("({a}).checked_mul({b}).is_some()")
            }
            6 | 7 => self.equality(d),
            8 if self.random.one_in(2) => self.choice("bool", d),
            8 => {
                let method = *self.random.pick(&["is_positive", "is_negative"]);
                format!("({}).{method}()", self.expr("i32", d))
            }
            _ => {
                let ty = number_ty(self.random);
                let op = *self.random.pick(&["==", "!=", "<", "<=", ">", ">="]);
                format!("(({}) {op} ({}))", self.expr(ty, d), self.expr(ty, d))
            }
        }
    }

    fn float_expr(&mut self, ty: &'static str, depth: usize) -> String {
        let d = depth - 1;
        match self.random.below(18) {
            0 => format!("({}).sqrt()", self.expr(ty, d)),
            1 => {
                let method = *self.random.pick(&["floor", "ceil", "round", "trunc", "abs", "signum"]);
                format!("({}).{method}()", self.expr(ty, d))
            }
            2 => {
                let method = *self.random.pick(&["min", "max", "copysign", "div_euclid", "rem_euclid"]);
                format!("({}).{method}({})", self.expr(ty, d), self.expr(ty, d))
            }
            3 => {
                let from = *self.random.pick(&["u8", "i32", "u64", "i64", "u32", "f32", "f64", "i128", "u128"]);
                format!("(({}) as {ty})", self.expr(from, d))
            }
            4 => format!("(-({}))", self.expr(ty, d)),
            5 => self.branch(ty, d),
            6 if self.helpers && ty == "f64" => format!("Self::h1({}, {})", self.expr(ty, d), self.expr(ty, d)),
            7 if self.own && ty == "f64" => format!("self.wide[{}]", self.index(4, d)),
            8 => {
                let bits = if ty == "f32" { "u32" } else { "u64" };
                format!("{ty}::from_bits({})", self.expr(bits, d))
            }
            9 | 13 | 14 if self.math => self.transcendental(ty, d),
            10 => self.part(ty, d),
            11 => self.choice(ty, d),
            17 => self.free_value(ty, d),
            12 if self.low && ty == "f64" => format!("Self::h5({}, {}).1", self.expr("i32", d), self.expr("f64", d)),
            12 => format!("({}).clamp(-1.5, {})", self.expr(ty, d), self.literal(ty)),
            _ => {
                let op = *self.random.pick(&["+", "-", "*", "/", "%"]);
                format!("(({}) {op} ({}))", self.expr(ty, d), self.expr(ty, d))
            }
        }
    }

    fn transcendental(&mut self, ty: &'static str, d: usize) -> String {
        let name = *self.random.pick(&["exp", "ln", "sin", "cos", "pow"]);
        let (x, y) = (self.expr(ty, d), self.expr(ty, d.min(1)));
        match (ty, name) {
            ("f32", "pow") => format!("(math::pow(({x}) as f64, ({y}) as f64) as f32)"),
            ("f32", _) => format!("(math::{name}(({x}) as f64) as f32)"),
            (_, "pow") => format!("math::pow({x}, {y})"),
            _ => format!("math::{name}({x})"),
        }
    }

    /// An index, below the end most of the time.
    fn index(&mut self, len: usize, depth: usize) -> String {
        match self.random.below(10) {
            0 if self.random.one_in(3) => self.expr("usize", depth.min(1)),
            0..=2 => self.random.below(len).to_string(),
            _ => {
                let ty = *self.random.pick(&["u8", "u32", "u64", "i32"]);
                format!("(({}) as usize % {len})", self.expr(ty, depth))
            }
        }
    }

    fn branch(&mut self, ty: &'static str, d: usize) -> String {
        match self.random.below(4) {
            0 | 1 => {
                let (cond, then, other) = (self.expr("bool", d), self.expr(ty, d), self.expr(ty, d));
                format!("(if {cond} {{ {then} }} else {{ {other} }})")
            }
            2 => {
                let on = *self.random.pick(&["i32", "u32", "u8", "i64"]);
                let value = self.expr(on, d);
                let (a, b, c, e) = (self.expr(ty, d), self.expr(ty, d), self.expr(ty, d), self.expr(ty, d));
                let guard = self.expr("bool", d.min(1));
                format!("(match {value} {{ 0 | 7 => {a}, 1..=5 => {b}, other if {guard} => {c}, _ => {e} }})")
            }
            _ => {
                self.names += 1;
                let name = format!("n{}", self.names);
                let on = *self.random.pick(&INTS);
                let op = *self.random.pick(&["add", "sub", "mul", "div", "rem"]);
                let (a, b) = (self.expr(on, d), self.expr(on, d));
                let scope = self.vars.len();
                self.vars.push(Var { name: name.clone(), ty: on, mutable: false });
                let some = self.expr(ty, d);
                self.vars.truncate(scope);
                let none = self.expr(ty, d);
                format!("(match ({a}).checked_{op}({b}) {{ Some({name}) => {some}, None => {none} }})")
            }
        }
    }

    fn int_expr(&mut self, ty: &'static str, depth: usize) -> String {
        let d = depth - 1;
        let signed = ty.starts_with('i');
        match self.random.below(29) {
            // Checked arithmetic faults often enough when it is rare.
            0 if self.random.one_in(2) => {
                let op = *self.random.pick(&["+", "-", "*", "/", "%"]);
                format!("(({}) {op} ({}))", self.expr(ty, d), self.expr(ty, d))
            }
            0 | 1 => {
                let op = *self.random.pick(&["/", "%"]);
                format!("(({}) {op} (({}) | {}))", self.expr(ty, d), self.expr(ty, d), 1 + self.random.below(9))
            }
            2..=6 => {
                let op = *self.random.pick(&["add", "sub", "mul"]);
                let mode = *self.random.pick(&["wrapping", "wrapping", "saturating"]);
                format!("({}).{mode}_{op}({})", self.expr(ty, d), self.expr(ty, d))
            }
            7 => {
                let op = *self.random.pick(&["&", "|", "^"]);
                format!("(({}) {op} ({}))", self.expr(ty, d), self.expr(ty, d))
            }
            8 => {
                let op = *self.random.pick(&["<<", ">>"]);
                let by = self.random.below(bits(ty) as usize + 1);
                format!("(({}) {op} {by})", self.expr(ty, d))
            }
            9 => {
                let op =
                    *self.random.pick(&["wrapping_shl", "wrapping_shr", "rotate_left", "rotate_right", "wrapping_pow"]);
                format!("({}).{op}({})", self.expr(ty, d), self.expr("u32", d))
            }
            10 => {
                let op = *self.random.pick(&["min", "max"]);
                format!("({}).{op}({})", self.expr(ty, d), self.expr(ty, d))
            }
            11 if signed => {
                let op = *self.random.pick(&[
                    "wrapping_abs",
                    "saturating_neg",
                    "signum",
                    "wrapping_neg",
                    "saturating_abs",
                    "abs",
                ]);
                format!("({}).{op}()", self.expr(ty, d))
            }
            11 => {
                let op = *self.random.pick(&["swap_bytes", "reverse_bits", "wrapping_neg"]);
                format!("({}).{op}()", self.expr(ty, d))
            }
            12 if ty == "u32" => {
                let from = *self.random.pick(&INTS);
                let op = *self.random.pick(&[
                    "leading_zeros",
                    "trailing_zeros",
                    "leading_ones",
                    "trailing_ones",
                    "count_ones",
                    "count_zeros",
                ]);
                format!("({}).{op}()", self.expr(from, d))
            }
            12 if !signed => {
                let from =
                    INTS.iter().copied().find(|from| from[1..] == ty[1..] && from.starts_with('i')).unwrap_or("i32");
                if self.random.one_in(2) && bits(from) == bits(ty) && (ty == "usize") == (from == "isize") {
                    format!("({}).unsigned_abs()", self.expr(from, d))
                } else {
                    format!("({}).abs_diff({})", self.expr(ty, d), self.expr(ty, d))
                }
            }
            13 | 14 => {
                let from = if self.random.one_in(4) { *self.random.pick(&FLOATS) } else { *self.random.pick(&INTS) };
                format!("(({}) as {ty})", self.expr(from, d))
            }
            15 | 16 => self.branch(ty, d),
            17 if self.own => match ty {
                "i32" => format!("self.tab[{}]", self.index(8, d)),
                "u16" => format!("self.grid[{}][{}]", self.index(4, d), self.index(4, d)),
                "u8" => format!("self.bytes[{}]", self.index(6, d)),
                _ => self.leaf(ty),
            },
            18 if self.helpers && ty == "i64" && self.own_mut && !self.pure => {
                // Within the arguments the state is lent already.
                self.pure = true;
                let text = format!("self.h0({}, {})", self.expr("i32", d), self.expr("u64", d));
                self.pure = false;
                text
            }
            18 if self.helpers && ty == "i32" && self.own => {
                let pure = std::mem::replace(&mut self.pure, true);
                let text = format!("self.h2(&self.tab, {})", self.index(8, d));
                self.pure = pure;
                text
            }
            19 => {
                let op = *self.random.pick(&["checked_add", "checked_sub", "checked_rem_euclid", "checked_div_euclid"]);
                format!("({}).{op}({}).unwrap_or({})", self.expr(ty, d), self.expr(ty, d), self.expr(ty, d))
            }
            20 => self.choice(ty, d),
            21 if self.random.one_in(4) => format!("(({}) as {ty})", self.expr("bool", d)),
            21 => {
                let from = self.enum_ty();
                format!("(({}) as {ty})", self.expr(from, d))
            }
            22 | 23 => self.part(ty, d),
            24 => {
                let op = *self.random.pick(&["checked_shl", "checked_shr", "checked_pow"]);
                format!("({}).{op}({}).unwrap_or({})", self.expr(ty, d), self.expr("u32", d), self.expr(ty, d.min(1)))
            }
            25 => {
                let op = *self.random.pick(&["checked_neg", "checked_abs"]);
                let op = if signed { op } else { "checked_neg" };
                format!("({}).{op}().unwrap_or({})", self.expr(ty, d), self.expr(ty, d.min(1)))
            }
            26 => match self.random.below(4) {
                0 => format!("(({}) % 6).pow({})", self.expr(ty, d), self.random.below(4)),
                1 => format!("({}).saturating_pow({})", self.expr(ty, d), self.expr("u32", d.min(1))),
                2 if signed => format!("(-({}))", self.expr(ty, d)),
                3 => format!("({}).clamp({}, 100)", self.expr(ty, d), self.literal(ty)),
                _ => format!("(!({}))", self.expr(ty, d)),
            },
            27 => self.int_of(ty, d),
            28 => self.free_value(ty, d),
            _ => self.leaf(ty),
        }
    }

    /// What only some types have.
    fn int_of(&mut self, ty: &'static str, d: usize) -> String {
        let smaller: &[&str] = match ty {
            "u16" => &["u8"],
            "u32" => &["u8", "u16"],
            "u64" => &["u8", "u16", "u32"],
            "u128" => &["u64"],
            "i16" => &["i8", "u8"],
            "i32" => &["i8", "i16", "u8", "u16"],
            "i64" => &["i32", "u32"],
            "i128" => &["i64", "u64"],
            _ => return self.leaf(ty),
        };
        match ty {
            "u64" if self.ctx && self.random.one_in(2) => format!("ctx.random_below({})", self.expr("u64", d)),
            "i64" if self.low && self.random.one_in(2) => {
                format!("Self::h5({}, {}).0", self.expr("i32", d), self.expr("f64", d))
            }
            "u32" if self.random.one_in(3) => format!("({}).to_bits()", self.expr("f32", d)),
            "u64" if self.random.one_in(2) => format!("({}).to_bits()", self.expr("f64", d)),
            _ => {
                let from = *self.random.pick(smaller);
                format!("{ty}::from({})", self.expr(from, d))
            }
        }
    }

    fn value_ty(&mut self) -> &'static str {
        if self.random.one_in(6) { self.enum_ty() } else { number_ty(self.random) }
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{}{text}", "    ".repeat(self.depth));
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn block(&mut self, stmts: usize, nesting: usize) {
        let scope = self.vars.len();
        self.stmts(stmts, nesting);
        self.vars.truncate(scope);
    }

    /// Statements of a block that goes on: what they bind stays.
    fn stmts(&mut self, stmts: usize, nesting: usize) {
        self.depth += 1;
        for _ in 0..stmts {
            self.stmt(nesting);
        }
        self.depth -= 1;
    }

    fn stmt(&mut self, nesting: usize) {
        match self.random.below(24) {
            0..=3 => {
                let ty = self.value_ty();
                let value = self.expr(ty, 2);
                // Now and then one that hides another.
                let hidden: Vec<String> =
                    self.visible().filter(|var| var.name.starts_with('v')).map(|var| var.name.clone()).collect();
                let hide = !hidden.is_empty() && self.random.one_in(6);
                let name = if hide { self.random.pick(&hidden).clone() } else { self.new_name() };
                let mutable = self.random.one_in(2);
                let keyword = if mutable { "mut " } else { "" };
                self.line(&format!("let {keyword}{name}: {ty} = {value};"));
                self.vars.push(Var { name, ty, mutable });
            }
            4..=6 => self.assign(),
            7 if nesting > 0 => {
                let cond = self.expr("bool", 2);
                self.line(&format!("if {cond} {{"));
                self.block(2, nesting - 1);
                if self.random.one_in(2) {
                    self.line("} else {");
                    self.block(2, nesting - 1);
                }
                self.line("}");
            }
            8 if nesting > 0 => self.loops(nesting),
            9 if nesting > 0 => self.while_loop(nesting),
            10 => {
                let (a, b) = (number_ty(self.random), number_ty(self.random));
                let (x, y) = (self.expr(a, 2), self.expr(b, 2));
                let (one, two) = (self.new_name(), self.new_name());
                self.line(&format!("let ({one}, {two}) = (({x}) as {a}, ({y}) as {b});"));
                self.vars.push(Var { name: one, ty: a, mutable: false });
                self.vars.push(Var { name: two, ty: b, mutable: false });
            }
            11 if self.ctx && !self.sends_nothing => self.send(),
            12 if self.random.one_in(4) => {
                let cond = self.expr("bool", 2);
                match self.gives {
                    Some(ty) => {
                        let value = self.expr(ty, 2);
                        self.line(&format!("if {cond} {{ return {value}; }}"));
                    }
                    None if self.ctx && self.random.one_in(3) => {
                        let code = self.expr("u16", 1);
                        self.line(&format!("if {cond} {{ ctx.fail({code}) }}"));
                    }
                    None => self.line(&format!("if {cond} {{ return; }}")),
                }
            }
            13 => {
                let ty = *self.random.pick(&INTS);
                let op = *self.random.pick(&["add", "mul", "sub"]);
                let (a, b) = (self.expr(ty, 2), self.expr(ty, 2));
                let name = self.new_name();
                let exit = match self.gives {
                    Some(ty) => {
                        let value = self.expr(ty, 1);
                        format!("return {value}")
                    }
                    None => "return".to_owned(),
                };
                self.line(&format!("let Some({name}) = ({a}).checked_{op}({b}) else {{ {exit} }};"));
                self.vars.push(Var { name, ty, mutable: false });
            }
            14 if self.helpers && self.handler => {
                let value = self.expr("u32", 2);
                let local = self.new_name();
                let other = self.expr("u32", 2);
                self.line(&format!("let mut {local}: u32 = {value};"));
                self.line(&format!("Self::h3(&mut {local}, {other});"));
                self.vars.push(Var { name: local, ty: "u32", mutable: true });
            }
            15 if self.own_mut => {
                let at = self.index(3, 1);
                let (k, w) = (self.expr("i32", 2), self.expr("f32", 2));
                self.line(&format!("self.pts[{at}] = Pt {{ w: {w}, k: {k} }};"));
            }
            16 => self.let_compound(),
            17 => self.assign_compound(),
            18 if nesting > 0 => self.taken_loop(nesting),
            19 if nesting > 0 => self.choose(nesting),
            20 => {
                let ty = self.value_ty();
                let (cond, a, b) = (self.expr("bool", 2), self.expr(ty, 2), self.expr(ty, 2));
                let name = self.new_name();
                self.line(&format!("let {name}: {ty};"));
                self.line(&format!("if {cond} {{ {name} = {a}; }} else {{ {name} = {b}; }}"));
                self.vars.push(Var { name, ty, mutable: false });
            }
            21 if self.helpers && self.handler => self.call(),
            22 if self.ctx && self.random.one_in(4) => match self.random.below(6) {
                0 => {
                    let cond = self.expr("bool", 1);
                    self.line(&format!("if {cond} {{ ctx.stop(); }}"));
                }
                1 => self.line("ctx.random();"),
                _ => {
                    let ty = self.value_ty();
                    let value = self.expr(ty, 2);
                    self.line(&format!("let _ = {value};"));
                }
            },
            23 if self.free > 3 => self.free_call(),
            _ => self.assign(),
        }
    }

    /// Calls of helpers that take references, or the `ctx`.
    fn call(&mut self) {
        let (name, local) = (self.new_name(), self.new_name());
        if self.random.one_in(2) {
            self.pure = true;
            let value = self.expr("u32", 2);
            self.pure = false;
            self.line(&format!("let {name}: u64 = self.h4({value}, ctx);"));
            self.vars.push(Var { name, ty: "u64", mutable: false });
        } else {
            let value = self.compound("[u32; 4]");
            let (point, at) = (self.index(3, 1), self.expr("usize", 1));
            self.line(&format!("let mut {local}: [u32; 4] = {value};"));
            self.line(&format!("let {name}: f32 = Self::h7(&self.pts[{point}], &mut {local}, {at});"));
            self.vars.push(Var { name, ty: "f32", mutable: false });
            self.vars.push(Var { name: local, ty: "[u32; 4]", mutable: true });
        }
    }

    fn assign(&mut self) {
        let vars: Vec<(String, &'static str)> = self
            .visible()
            .filter(|var| var.mutable && !parts::has_parts(var.ty))
            .map(|var| (var.name.clone(), var.ty))
            .collect();
        let (place, ty) = if self.own_mut && (vars.is_empty() || !self.random.one_in(3)) {
            match self.random.below(11) {
                8 => (format!("self.modes[{}]", self.index(3, 1)), "Mode"),
                9 => (format!("self.log[{}].modes[{}]", self.index(2, 1), self.index(2, 1)), "Mode"),
                10 => (format!("self.pts[{}].k", self.index(3, 1)), "i32"),
                0 => (format!("self.tab[{}]", self.index(8, 2)), "i32"),
                1 => (format!("self.grid[{}][{}]", self.index(4, 1), self.index(4, 1)), "u16"),
                2 => (format!("self.wide[{}]", self.index(4, 1)), "f64"),
                3 => (format!("self.bytes[{}]", self.index(6, 1)), "u8"),
                _ => {
                    let (place, ty) = *self.random.pick(&[
                        ("self.ub", "u128"),
                        ("self.ib", "i128"),
                        ("self.ua", "u64"),
                        ("self.ia", "i64"),
                        ("self.x", "f64"),
                        ("self.uc", "u32"),
                        ("self.ic", "i32"),
                        ("self.y", "f32"),
                        ("self.z", "f32"),
                        ("self.ue", "u16"),
                        ("self.ie", "i16"),
                        ("self.uf", "u8"),
                        ("self.ig", "i8"),
                        ("self.pts[2].w", "f32"),
                        ("self.mode", "Mode"),
                        ("self.seen.wind", "Wind"),
                        ("self.seen.why", "Why"),
                        ("self.seen.at.k", "i32"),
                    ]);
                    (place.to_owned(), ty)
                }
            }
        } else if let Some((name, ty)) = (!vars.is_empty()).then(|| self.random.pick(&vars).clone()) {
            (name, ty)
        } else {
            return;
        };
        let depth = 1 + self.random.below(3);
        let value = self.expr(ty, depth);
        let op = self.assign_op(ty);
        self.assignment(&place, ty, op, &value);
    }

    fn assign_op(&mut self, ty: &str) -> &'static str {
        let float = ty.starts_with('f');
        match self.random.below(16) {
            _ if is_enum(ty) => "=",
            0 => "+=",
            1 => "-=",
            2 if !float => "^=",
            3 if !float => "|=",
            4 if !float => "&=",
            5 if !float => self.random.pick::<&str>(&["<<=", ">>="]),
            6 if !float => self.random.pick::<&str>(&["/=", "%="]),
            4..=6 => self.random.pick::<&str>(&["*=", "/=", "%="]),
            7 if !float && self.random.one_in(3) => "*=",
            _ => "=",
        }
    }

    fn assignment(&mut self, place: &str, ty: &str, op: &str, value: &str) {
        match op {
            "<<=" | ">>=" => {
                let by = self.random.below(bits(ty) as usize + 1);
                self.line(&format!("{place} {op} {by};"));
            }
            // A divisor that is seldom 0.
            "/=" | "%=" if !ty.starts_with('f') => self.line(&format!("{place} {op} ({value}) | 6;")),
            _ => self.line(&format!("{place} {op} {value};")),
        }
    }

    fn loops(&mut self, nesting: usize) {
        self.loops += 1;
        let (label, scope) = (format!("'l{}", self.loops), self.vars.len());
        match self.random.below(5) {
            0 if self.own => {
                let name = self.new_name();
                let (array, ty) =
                    *self.random.pick(&[("tab", "i32"), ("modes", "Mode"), ("log", "Seen"), ("pts", "Pt")]);
                self.line(&format!("{label}: for {name} in self.{array} {{"));
                self.vars.push(Var { name, ty, mutable: false });
            }
            4 => {
                let name = self.new_name();
                let array = self.compound("[u32; 4]");
                self.line(&format!("{label}: for {name} in {array} {{"));
                self.vars.push(Var { name, ty: "u32", mutable: false });
            }
            1 => {
                let name = self.new_name();
                let (from, more) = (self.expr("i32", 1), self.random.below(9));
                // Seldom so many iterations that the fuel does not suffice.
                let from = if self.random.one_in(8) { from } else { format!("({from}) % 9") };
                self.line(&format!("{label}: for {name} in {from}..={more} {{"));
                self.vars.push(Var { name, ty: "i32", mutable: false });
            }
            _ => {
                let name = self.new_name();
                let ty = *self.random.pick(&["u8", "usize", "u64"]);
                let end = self.expr(ty, 2);
                self.line(&format!("{label}: for {name} in 0..({end}) % 13 {{"));
                self.vars.push(Var { name, ty, mutable: false });
            }
        }
        self.stmts(2, nesting - 1);
        if self.random.one_in(2) {
            let cond = self.expr("bool", 2);
            let way = *self.random.pick(&["break", "continue"]);
            self.line(&format!("    if {cond} {{ {way} {label}; }}"));
            self.depth += 1;
            self.assign();
            self.depth -= 1;
        }
        self.line("}");
        self.vars.truncate(scope);
    }

    fn while_loop(&mut self, nesting: usize) {
        let count = self.new_name();
        let ty = *self.random.pick(&["u32", "i64"]);
        let end = self.random.below(12);
        self.line(&format!("let mut {count} = 0{ty};"));
        if self.random.one_in(2) {
            let cond = self.expr("bool", 2);
            self.line(&format!("while {count} < {end} || ({cond} && {count} < 40) {{"));
            self.line(&format!("    {count} += 1;"));
            self.vars.push(Var { name: count, ty, mutable: false });
            self.block(2, nesting - 1);
            self.line("}");
        } else {
            let given = number_ty(self.random);
            let name = self.new_name();
            let value = self.expr(given, 2);
            let cond = self.expr("bool", 2);
            self.line(&format!("let {name}: {given} = loop {{"));
            self.line(&format!("    {count} += 1;"));
            self.line(&format!("    if {count} > {end} || {cond} {{ break {value}; }}"));
            self.block(1, nesting - 1);
            self.line("};");
            self.vars.push(Var { name: count, ty, mutable: false });
            self.vars.push(Var { name, ty: given, mutable: false });
        }
    }

    fn send(&mut self) {
        let types = [
            ("p", "i64"),
            ("q", "u64"),
            ("r", "i32"),
            ("s", "f32"),
            ("t", "u16"),
            ("wind", "Wind"),
            ("v", "u8"),
            ("w", "i8"),
            ("mode", "Mode"),
            ("way", "Mode"),
        ];
        let fields: Vec<String> = types.iter().map(|(name, ty)| format!("{name}: {}", self.expr(ty, 1))).collect();
        let body = format!("M{} {{ {} }}", self.random.below(HANDLERS), fields.join(", "));
        let key = self.expr("u64", 2);
        match self.random.below(9) {
            0 | 1 => self.line(&format!("ctx.tell(Self::at_home({key}), &{body});")),
            2 => self.line(&format!("ctx.tell(P0::at({key}), &{body});")),
            3 => self.line(&format!("ctx.tell(P0::in_set(\"random.elsewhere\", {key}), &{body});")),
            4 if self.handler => self.line(&format!("ctx.tell(P0::at({key}), m);")),
            5 => {
                let delay = self.expr("u32", 1);
                let delay = if self.random.one_in(8) { delay } else { format!("({delay}) % 5000") };
                self.line(&format!("ctx.after({delay}, &{body});"));
            }
            6 => {
                let name = self.new_name();
                self.line(&format!("let {name} = {body};"));
                self.line(&format!("ctx.reply(&{name});"));
            }
            _ => self.line(&format!("ctx.reply(&{body});")),
        }
    }
}

/// What a function is given, and may do.
#[derive(Clone, Copy, Default)]
struct Shape {
    gives: Option<&'static str>,
    vars: &'static [(&'static str, &'static str)],
    own: bool,
    own_mut: bool,
    handler: bool,
    ctx: bool,
    low: bool,
    free: usize,
    sends_nothing: bool,
    /// What stands before the random statements, and behind them.
    first: &'static str,
    last: &'static str,
}

fn function(random: &mut Random, head: &str, shape: &Shape, math: bool, stmts: usize) -> String {
    let var = |(name, ty): &(&str, &'static str)| Var { name: (*name).to_owned(), ty, mutable: false };
    let mut writer = Writer {
        random,
        out: format!("    {head} {{\n{}", shape.first),
        vars: shape.vars.iter().map(var).collect(),
        depth: 2,
        handler: shape.handler,
        ctx: shape.ctx,
        own: shape.own,
        own_mut: shape.own_mut,
        pure: false,
        helpers: shape.handler,
        low: shape.low,
        math,
        free: shape.free,
        sends_nothing: shape.sends_nothing,
        names: 0,
        loops: 0,
        gives: shape.gives,
    };
    for _ in 0..stmts {
        writer.stmt(2);
    }
    if let Some(ty) = shape.gives {
        let value = writer.expr(ty, 2);
        writer.line(&value);
    }
    writer.out.push_str(shape.last);
    writer.out.push_str("    }\n");
    writer.out
}

const NOTHING: Shape = Shape {
    gives: None,
    vars: &[],
    own: false,
    own_mut: false,
    handler: false,
    ctx: false,
    low: false,
    free: free::ALL,
    sends_nothing: false,
    first: "",
    last: "",
};
const HANDLER: Shape = Shape { own: true, own_mut: true, handler: true, ctx: true, low: true, ..NOTHING };
const HELPERS: [(&str, Shape); 8] = [
    (
        "fn h0(&mut self, a: i32, b: u64) -> i64",
        Shape {
            gives: Some("i64"),
            vars: &[("a", "i32"), ("b", "u64")],
            own: true,
            own_mut: true,
            low: true,
            ..NOTHING
        },
    ),
    ("fn h1(a: f64, b: f64) -> f64", Shape { gives: Some("f64"), vars: &[("a", "f64"), ("b", "f64")], ..NOTHING }),
    (
        "fn h2(&self, rows: &[i32; 8], i: usize) -> i32",
        Shape { gives: Some("i32"), vars: &[("i", "usize"), ("rows[5]", "i32")], own: true, low: true, ..NOTHING },
    ),
    (
        "fn h3(x: &mut u32, y: u32)",
        Shape { vars: &[("y", "u32")], last: "        *x = x.rotate_left(3) ^ y;\n        *x += 1;\n", ..NOTHING },
    ),
    (
        "fn h4(&mut self, a: u32, ctx: &mut Ctx) -> u64",
        Shape { gives: Some("u64"), vars: &[("a", "u32")], own: true, own_mut: true, ctx: true, low: true, ..NOTHING },
    ),
    (
        "fn h5(a: i32, b: f64) -> (i64, f64)",
        Shape { gives: Some("(i64, f64)"), vars: &[("a", "i32"), ("b", "f64")], ..NOTHING },
    ),
    (
        "fn h6(way: Mode, n: i32) -> Mode",
        Shape { gives: Some("Mode"), vars: &[("way", "Mode"), ("n", "i32")], ..NOTHING },
    ),
    (
        "fn h7(p: &Pt, rows: &mut [u32; 4], at: usize) -> f32",
        Shape {
            gives: Some("f32"),
            vars: &[("p.k", "i32"), ("p.w", "f32"), ("rows[1]", "u32"), ("at", "usize")],
            first: "        rows[at % 4] = rows[at % 4].rotate_left(1) ^ 5;\n",
            ..NOTHING
        },
    ),
];

/// The constants of one type.
fn constants(random: &mut Random) -> String {
    let mut of = |end: usize| random.below(end);
    let rows: Vec<String> = (0..4).map(|_| of(1 << 20).to_string()).collect();
    format!(
        "    const LIMIT: i32 = {};\n    const SCALE: f64 = {}.25;\n    const ROWS: [u32; 4] = [{}];\n    const LEN: usize = 5;\n    \
         const PAIR: (Why, Wind) = ({}, {});\n    const KEY: u64 = STEP ^ {};\n    const START: Mode = {};\n",
        of(30),
        of(1000),
        rows.join(", "),
        ENUMS[2].1[of(3)],
        ENUMS[1].1[of(3)],
        of(1 << 30),
        ENUMS[0].1[of(4)],
    )
}

/// Text of `count` actor types.
pub fn programs(seed: u64, count: usize) -> String {
    let mut random = Random(seed);
    let mut out = String::from("use ringfleet_actor::prelude::*;\n");
    out.push_str(SHARED);
    out.push_str(&free::functions(&mut random));
    for at in 0..HANDLERS {
        let _ = writeln!(out, "#[message] pub struct M{at} {{ {MESSAGE} }}");
    }
    for at in 0..count {
        let _ = writeln!(
            out,
            "#[actor(name = \"random.p{at}\", max_sends = 4, init = zero)] pub struct P{at} {{ {STATE} }}\n#[handlers] impl P{at} {{"
        );
        let mut text = constants(&mut random);
        // The text of those functions is long, and every program that calls one has it.
        let math = at % MATH == 0;
        for at in 0..HANDLERS {
            let stmts = 2 + random.below(4);
            let head = format!("fn on_m{at}(&mut self, m: &M{at}, ctx: &mut Ctx)");
            text.push_str(&function(&mut random, &head, &HANDLER, math, stmts));
        }
        for (head, shape) in &HELPERS {
            let stmts = random.below(3);
            text.push_str(&function(&mut random, head, shape, math, stmts));
        }
        out.push_str(&text.replace("Self::at_home(", &format!("P{at}::at(")));
        out.push_str("}\n");
    }
    let types: Vec<String> = (0..count).map(|at| format!("P{at}")).collect();
    let _ = writeln!(
        out,
        "pub fn types() -> Vec<&'static ringfleet_actor::TypeDescriptor> {{ ringfleet_actor::types![{}] }}",
        types.join(", ")
    );
    out
}
