//! Enums, and what chooses between values.

use super::{ENUMS, FLOATS, INTS, Var, Writer};

impl Writer<'_> {
    /// The name of an enum.
    pub fn enum_ty(&mut self) -> &'static str {
        self.random.pick::<&str>(&["Mode", "Mode", "Wind", "Why"])
    }

    pub fn variant(&mut self, ty: &str) -> String {
        let variants = ENUMS.iter().find(|(name, _)| *name == ty).map_or(&[][..], |(_, variants)| variants);
        (*self.random.pick(variants)).to_owned()
    }

    pub fn enum_expr(&mut self, ty: &'static str, depth: usize) -> String {
        let d = depth - 1;
        match self.random.below(7) {
            0 => self.branch(ty, d),
            6 => self.free_value(ty, d),
            1 if ty == "Mode" && self.own => format!("self.modes[{}]", self.index(3, d)),
            2 if ty == "Mode" && self.low => format!("Self::h6({}, {})", self.expr("Mode", d), self.expr("i32", d)),
            3 => self.part(ty, d),
            4 => self.choice(ty, d),
            _ => self.leaf(ty),
        }
    }

    /// A name that an expression binds, seen in what `inside` makes.
    fn bound(&mut self, ty: &'static str, inside: impl FnOnce(&mut Self, &str) -> String) -> String {
        let name = self.new_name();
        let scope = self.vars.len();
        self.vars.push(Var { name: name.clone(), ty, mutable: false });
        let text = inside(self, &name);
        self.vars.truncate(scope);
        text
    }

    /// A value that depends on an enum, a tuple, a range or an `Option`.
    pub fn choice(&mut self, ty: &'static str, d: usize) -> String {
        match self.random.below(7) {
            0 => {
                let value = self.expr("Mode", d);
                let (a, b, c) = (self.expr(ty, d), self.expr(ty, d), self.expr(ty, d));
                format!("(match {value} {{ Mode::Idle => {a}, Mode::Busy | Mode::Late => {b}, Mode::Lost => {c} }})")
            }
            1 => {
                let on = self.enum_ty();
                let (value, variant) = (self.expr(on, d), self.variant(on));
                let first = if on == "Mode" { "FIRST".to_owned() } else { self.variant(on) };
                let a = self.expr(ty, d);
                let some = self.bound(on, |writer, name| {
                    let guard = writer.expr("bool", d.min(1));
                    format!("{name} if {guard} => {}", writer.expr(ty, d))
                });
                let (b, c) = (self.expr(ty, d), self.expr(ty, d));
                format!("(match {value} {{ {variant} => {a}, {some}, {first} => {b}, _ => {c} }})")
            }
            2 => {
                let (mode, number) = (self.expr("Mode", d), self.expr("i32", d));
                let (a, b, c) = (self.expr(ty, d), self.expr(ty, d), self.expr(ty, d));
                let some = self.bound("i32", |writer, name| {
                    let guard = writer.expr("bool", d.min(1));
                    format!("(_, {name}) if {guard} => {}", writer.expr(ty, d))
                });
                let e = self.expr(ty, d);
                format!(
                    "(match ({mode}, {number}) {{ (Mode::Idle, 0..=9) => {a}, (FIRST | Mode::Lost, ..0) => {b}, {some}, \
                     (Self::START, 7 | 100..) => {c}, _ => {e} }})"
                )
            }
            3 => {
                let (value, a, b) = (self.expr("bool", d), self.expr(ty, d), self.expr(ty, d));
                format!("(match {value} {{ true => {a}, false => {b} }})")
            }
            4 => {
                let on = *self.random.pick(&["i32", "i64", "i128", "i16"]);
                let (value, limit) = (self.expr(on, d), if on == "i32" { "Self::LIMIT" } else { "77" });
                let (a, b, c, e) = (self.expr(ty, d), self.expr(ty, d), self.expr(ty, d), self.expr(ty, d));
                format!("(match {value} {{ ..-3 => {a}, -3..=-1 => {b}, {limit} => {c}, 0 | 20.. => {a}, _ => {e} }})")
            }
            5 => {
                let on = *self.random.pick(&INTS);
                let op = *self.random.pick(&["add", "sub", "mul", "div", "rem"]);
                let (a, b) = (self.expr(on, d), self.expr(on, d));
                let (name, some) = {
                    let mut bound = String::new();
                    let some = self.bound(on, |writer, name| {
                        name.clone_into(&mut bound);
                        writer.expr(ty, d)
                    });
                    (bound, some)
                };
                let none = self.expr(ty, d);
                format!("(if let Some({name}) = ({a}).checked_{op}({b}) {{ {some} }} else {{ {none} }})")
            }
            _ => {
                let on = if self.random.one_in(4) { *self.random.pick(&FLOATS) } else { "u64" };
                let value = self.expr(on, d);
                let mut bound = String::new();
                let text = self.bound(on, |writer, name| {
                    name.clone_into(&mut bound);
                    writer.expr(ty, d)
                });
                format!("({{ let {bound}: {on} = {value}; {text} }})")
            }
        }
    }

    /// Whether two values are equal: enums, tuples, arrays.
    pub fn equality(&mut self, d: usize) -> String {
        let op = *self.random.pick(&["==", "!="]);
        match self.random.below(4) {
            0 | 1 => {
                let ty = self.enum_ty();
                format!("({} {op} {})", self.expr(ty, d), self.expr(ty, d))
            }
            2 => {
                let (a, b) = (self.enum_ty(), *self.random.pick(&INTS));
                let (x, y) = (self.expr(a, d), self.expr(b, d));
                format!("(({x}, {y}) {op} ({}, {}))", self.expr(a, d), self.expr(b, d))
            }
            _ => {
                let ty = *self.random.pick(&["i32", "u64", "Mode", "f32"]);
                let (x, y) = (self.expr(ty, d), self.expr(ty, d));
                format!("([{x}, {y}] {op} [{}; 2])", self.expr(ty, d))
            }
        }
    }

    /// Control flow over choices, as statements.
    pub fn choose(&mut self, nesting: usize) {
        match self.random.below(3) {
            0 => {
                let value = self.expr("i32", 2);
                self.line(&format!("match {value} {{"));
                for pattern in ["..=-1 =>", "0 | 3..=9 =>", "Self::LIMIT =>", "_ =>"] {
                    self.line(&format!("    {pattern} {{"));
                    self.depth += 1;
                    self.block(1, nesting - 1);
                    self.depth -= 1;
                    self.line("    }");
                }
                self.line("}");
            }
            1 => {
                let value = self.expr("Mode", 2);
                self.line(&format!("match {value} {{"));
                for pattern in ["Mode::Busy | Mode::Lost =>", "Mode::Late =>", "Mode::Idle =>"] {
                    self.line(&format!("    {pattern} {{"));
                    self.depth += 1;
                    self.block(1, nesting - 1);
                    self.depth -= 1;
                    self.line("    }");
                }
                self.line("}");
            }
            _ => {
                let ty = *self.random.pick(&INTS);
                let op = *self.random.pick(&["add", "sub", "mul", "pow", "shl"]);
                let by = if matches!(op, "pow" | "shl") { "u32" } else { ty };
                let (a, b) = (self.expr(ty, 2), self.expr(by, 1));
                let name = self.new_name();
                self.line(&format!("if let Some({name}) = ({a}).checked_{op}({b}) {{"));
                let scope = self.vars.len();
                self.vars.push(Var { name, ty, mutable: false });
                self.block(1, nesting - 1);
                self.vars.truncate(scope);
                let other = self.expr("bool", 1);
                self.line(&format!("}} else if {other} {{"));
                self.block(1, nesting - 1);
                self.line("} else {");
                self.block(1, nesting - 1);
                self.line("}");
            }
        }
    }

    /// `while let`, and loops that are left from within another with a value.
    pub fn taken_loop(&mut self, nesting: usize) {
        if self.random.one_in(2) {
            let ty = *self.random.pick(&["u8", "u64", "i32", "u128"]);
            let (count, name) = (self.new_name(), self.new_name());
            let (begin, by) = (self.expr(ty, 2), 1 + self.random.below(3));
            self.line(&format!("let mut {count}: {ty} = ({begin}) % 12;"));
            self.line(&format!("while let Some({name}) = {count}.checked_sub({by}) {{"));
            self.line(&format!("    {count} = {name};"));
            if ty == "i32" {
                self.line(&format!("    if {name} < 0 {{ break; }}"));
            } else {
                let cond = self.expr("bool", 1);
                self.line(&format!("    if {cond} {{ continue; }}"));
            }
            let scope = self.vars.len();
            self.vars.push(Var { name, ty, mutable: false });
            self.block(2, nesting - 1);
            self.vars.truncate(scope);
            self.line("}");
            self.vars.push(Var { name: count, ty, mutable: false });
        } else {
            self.loops += 1;
            let (label, given) = (format!("'l{}", self.loops), self.value_ty());
            let (name, inner) = (self.new_name(), self.new_name());
            let (first, cond, second) = (self.expr(given, 2), self.expr("bool", 2), self.expr(given, 1));
            let end = 1 + self.random.below(6);
            self.line(&format!("let {name}: {given} = {label}: loop {{"));
            self.line(&format!("    for {inner} in 0..{end}u32 {{"));
            let scope = self.vars.len();
            self.vars.push(Var { name: inner, ty: "u32", mutable: false });
            self.depth += 1;
            self.line(&format!("    if {cond} {{ break {label} {first}; }}"));
            self.block(1, nesting - 1);
            self.depth -= 1;
            self.vars.truncate(scope);
            self.line("    }");
            self.line(&format!("    break {second};"));
            self.line("};");
            self.vars.push(Var { name, ty: given, mutable: false });
        }
    }
}
