//! Writes random handlers: well-typed text of the subset, with faults that happen now and then.

use std::fmt::Write as _;

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

/// Fields of the state and of messages, by type.
const STATE: &str = "ub: u128, ib: i128, ua: u64, ia: i64, x: f64, uc: u32, ic: i32, y: f32, z: f32, tab: [i32; 8], grid: [[u16; 4]; 4], \
                     pts: [Pt; 3], wide: [f64; 4], ue: u16, ie: i16, uf: u8, ig: i8, bytes: [u8; 6], _pad: [u8; 4]";
const MESSAGE: &str = "p: i64, q: u64, r: i32, s: f32, t: u16, u: i16, v: u8, w: i8, _pad: [u8; 2]";

fn fields(ty: &str) -> &'static [&'static str] {
    match ty {
        "u128" => &["self.ub"],
        "i128" => &["self.ib"],
        "u64" => &["self.ua", "m.q", "ctx.key()", "ctx.now().wall_ms()", "ctx.sender().key"],
        "i64" => &["self.ia", "m.p"],
        "f64" => &["self.x", "self.wide[1]"],
        "u32" => &["self.uc"],
        "i32" => &["self.ic", "m.r", "self.tab[2]", "self.pts[1].k"],
        "f32" => &["self.y", "self.z", "m.s", "self.pts[0].w"],
        "u16" => &["self.ue", "m.t", "self.grid[1][2]"],
        "i16" => &["self.ie", "m.u"],
        "u8" => &["self.uf", "m.v", "self.bytes[3]"],
        "i8" => &["self.ig", "m.w"],
        _ => &[],
    }
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
    /// In a handler: `m` and `ctx` are there.
    handler: bool,
    /// `self` is there, and may be changed.
    own: bool,
    own_mut: bool,
    /// Calls of `self.h0` would be seen by someone who has borrowed a part of the state.
    pure: bool,
    helpers: bool,
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
        let signed = ty.starts_with('i');
        match self.random.below(12) {
            0 => format!("{ty}::MAX"),
            1 => format!("{ty}::MIN"),
            2 if signed => format!("(-{}{ty})", 1 + self.random.below(100)),
            3 => format!("{}{ty}", 100 + self.random.below(27)),
            _ => format!("{}{ty}", self.random.below(12)),
        }
    }

    fn leaf(&mut self, ty: &str) -> String {
        let vars: Vec<String> = self.vars.iter().filter(|var| var.ty == ty).map(|var| var.name.clone()).collect();
        if !vars.is_empty() && !self.random.one_in(3) {
            return self.random.pick(&vars).clone();
        }
        let (handler, own) = (self.handler, self.own);
        let known: Vec<&str> =
            fields(ty).iter().copied().filter(|field| if field.starts_with("self") { own } else { handler }).collect();
        if !known.is_empty() && !self.random.one_in(4) {
            (*self.random.pick(&known)).to_owned()
        } else {
            self.literal(ty)
        }
    }

    fn expr(&mut self, ty: &'static str, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(ty);
        }
        match ty {
            "bool" => self.bool_expr(depth),
            "f32" | "f64" => self.float_expr(ty, depth),
            _ => self.int_expr(ty, depth),
        }
    }

    fn bool_expr(&mut self, depth: usize) -> String {
        let d = depth - 1;
        match self.random.below(9) {
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
            _ => {
                let ty = number_ty(self.random);
                let op = *self.random.pick(&["==", "!=", "<", "<=", ">", ">="]);
                format!("(({}) {op} ({}))", self.expr(ty, d), self.expr(ty, d))
            }
        }
    }

    fn float_expr(&mut self, ty: &'static str, depth: usize) -> String {
        let d = depth - 1;
        match self.random.below(12) {
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
            _ => {
                let op = *self.random.pick(&["+", "-", "*", "/", "%"]);
                format!("(({}) {op} ({}))", self.expr(ty, d), self.expr(ty, d))
            }
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
        match self.random.below(20) {
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
                format!("self.h0({}, {})", self.expr("i32", d), self.expr("u64", d))
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
            _ => self.leaf(ty),
        }
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
        self.depth += 1;
        for _ in 0..stmts {
            self.stmt(nesting);
        }
        self.depth -= 1;
        self.vars.truncate(scope);
    }

    fn stmt(&mut self, nesting: usize) {
        match self.random.below(16) {
            0..=3 => {
                let ty = number_ty(self.random);
                let value = self.expr(ty, 2);
                let name = self.new_name();
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
            11 if self.handler => self.send(),
            12 if self.random.one_in(4) => {
                let cond = self.expr("bool", 2);
                match self.gives {
                    Some(ty) => {
                        let value = self.expr(ty, 2);
                        self.line(&format!("if {cond} {{ return {value}; }}"));
                    }
                    None if self.handler && self.random.one_in(3) => {
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
            _ => self.assign(),
        }
    }

    fn assign(&mut self) {
        let vars: Vec<(String, &'static str)> =
            self.vars.iter().filter(|var| var.mutable).map(|var| (var.name.clone(), var.ty)).collect();
        let (place, ty) = if self.own_mut && (vars.is_empty() || !self.random.one_in(3)) {
            match self.random.below(8) {
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
        let float = ty.starts_with('f');
        let op = match self.random.below(12) {
            0 => "+=",
            1 => "-=",
            2 if !float => "^=",
            3 if !float => "|=",
            4..=6 if float => "*=",
            _ => "=",
        };
        self.line(&format!("{place} {op} {value};"));
    }

    fn loops(&mut self, nesting: usize) {
        self.loops += 1;
        let label = format!("'l{}", self.loops);
        match self.random.below(4) {
            0 if self.own => {
                let name = self.new_name();
                self.line(&format!("{label}: for {name} in self.tab {{"));
                self.vars.push(Var { name, ty: "i32", mutable: false });
            }
            1 => {
                let name = self.new_name();
                let (from, more) = (self.expr("i32", 1), self.random.below(9));
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
        self.block(2, nesting - 1);
        if self.random.one_in(2) {
            let cond = self.expr("bool", 2);
            let way = *self.random.pick(&["break", "continue"]);
            self.line(&format!("    if {cond} {{ {way} {label}; }}"));
            self.depth += 1;
            self.assign();
            self.depth -= 1;
        }
        self.line("}");
        self.vars.pop();
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
            ("u", "i16"),
            ("v", "u8"),
            ("w", "i8"),
        ];
        let fields: Vec<String> = types.iter().map(|(name, ty)| format!("{name}: {}", self.expr(ty, 1))).collect();
        let body = format!("M{} {{ {}, _pad: [0; 2] }}", self.random.below(HANDLERS), fields.join(", "));
        let key = self.expr("u64", 2);
        match self.random.below(3) {
            0 => self.line(&format!("ctx.tell(Self::at_home({key}), &{body});")),
            1 => self.line(&format!("ctx.tell(P0::at({key}), &{body});")),
            _ => self.line(&format!("ctx.reply(&{body});")),
        }
    }
}

fn function(
    random: &mut Random,
    head: &str,
    gives: Option<&'static str>,
    vars: &[(&str, &'static str)],
    own: (bool, bool),
    handler: bool,
    stmts: usize,
) -> String {
    let vars = vars.iter().map(|(name, ty)| Var { name: (*name).to_owned(), ty, mutable: false }).collect();
    let mut writer = Writer {
        random,
        out: format!("    {head} {{\n"),
        vars,
        depth: 1,
        handler,
        own: own.0,
        own_mut: own.1,
        pure: false,
        helpers: handler,
        names: 0,
        loops: 0,
        gives,
    };
    writer.depth = 2;
    for _ in 0..stmts {
        writer.stmt(2);
    }
    if let Some(ty) = gives {
        let value = writer.expr(ty, 2);
        writer.line(&value);
    }
    writer.out.push_str("    }\n");
    writer.out
}

/// Text of `count` actor types.
pub fn programs(seed: u64, count: usize) -> String {
    let mut random = Random(seed);
    let mut out = String::from("use ringfleet_actor::prelude::*;\n");
    let _ = writeln!(out, "#[plain] #[derive(Default)] pub struct Pt {{ pub k: i32, pub w: f32 }}");
    for at in 0..HANDLERS {
        let _ = writeln!(out, "#[message] pub struct M{at} {{ {MESSAGE} }}");
    }
    for at in 0..count {
        let _ = writeln!(
            out,
            "#[actor(name = \"random.p{at}\", max_sends = 4, init = zero)] pub struct P{at} {{ {STATE} }}\n#[handlers] impl P{at} {{"
        );
        let handlers: Vec<String> = (0..HANDLERS)
            .map(|at| {
                let stmts = 3 + random.below(4);
                let head = format!("fn on_m{at}(&mut self, m: &M{at}, ctx: &mut Ctx)");
                function(&mut random, &head, None, &[], (true, true), true, stmts)
            })
            .collect();
        out.push_str(&handlers.concat().replace("Self::at_home(", &format!("P{at}::at(")));
        let helpers = [
            ("fn h0(&mut self, a: i32, b: u64) -> i64", Some("i64"), &[("a", "i32"), ("b", "u64")][..], (true, true)),
            ("fn h1(a: f64, b: f64) -> f64", Some("f64"), &[("a", "f64"), ("b", "f64")][..], (false, false)),
            (
                "fn h2(&self, rows: &[i32; 8], i: usize) -> i32",
                Some("i32"),
                &[("i", "usize"), ("rows[5]", "i32")][..],
                (true, false),
            ),
            ("fn h3(x: &mut u32, y: u32)", None, &[("y", "u32")][..], (false, false)),
        ];
        for (head, gives, vars, own) in helpers {
            let stmts = 1 + random.below(3);
            let text = function(&mut random, head, gives, vars, own, false, stmts);
            let last = if gives.is_none() {
                "        *x = x.rotate_left(3) ^ y;\n        *x += 1;\n    }\n"
            } else {
                "    }\n"
            };
            out.push_str(text.strip_suffix("    }\n").unwrap_or(&text));
            out.push_str(last);
        }
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
