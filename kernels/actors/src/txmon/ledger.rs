//! Transactions in the order in which they happened, and their text: the line [`HEADER`] and a line for each.

use std::fmt::Write;

use super::Rule;
use super::account::Posted;

/// The first line.
pub const HEADER: &str = "time_ms,kind,payer,payee,cents,label";
/// The last millisecond of the year 9999.
pub const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// What a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A payment for something.
    Purchase,
    /// A payment between persons.
    Transfer,
    /// A payment by an employer.
    Salary,
    /// Cash. It has no payer.
    Deposit,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Purchase, Self::Transfer, Self::Salary, Self::Deposit];

    const fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Transfer => "transfer",
            Self::Salary => "salary",
            Self::Deposit => "deposit",
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Purchase => Posted::PURCHASE,
            Self::Transfer => Posted::TRANSFER,
            Self::Salary => Posted::SALARY,
            Self::Deposit => Posted::DEPOSIT,
        }
    }
}

/// Money that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// When, in Unix time.
    pub time_ms: u64,
    /// What it is.
    pub kind: Kind,
    /// The account that pays; of a deposit 0.
    pub payer: u32,
    /// The account that is paid.
    pub payee: u32,
    /// How much, at least 1.
    pub cents: u32,
    /// By which pattern the account that it is posted to launders with it, if that is known. Rules do not look at it.
    pub label: Option<Rule>,
}

impl Transaction {
    /// The account that it is posted to: the payer, or the one with the deposit.
    #[must_use]
    pub fn account(&self) -> u32 {
        if self.kind == Kind::Deposit { self.payee } else { self.payer }
    }

    /// What that account is told.
    #[must_use]
    pub fn posted(&self, seq: u32) -> Posted {
        let to = if self.kind == Kind::Deposit { 0 } else { self.payee };
        Posted { time_ms: self.time_ms, to, cents: self.cents, seq, kind: self.kind.number() }
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerProblem {
    /// Not text.
    #[error("not UTF-8")]
    NotUtf8,
    /// The first line says something else.
    #[error("its first line must be {HEADER}")]
    NoHeader,
    /// There is no transaction.
    #[error("no transactions in it")]
    Empty,
    /// Too few or too many fields.
    #[error("expected 6 fields, found {found}")]
    Fields {
        /// How many there are.
        found: usize,
    },
    /// Something that a field may not be.
    #[error("`{text}` is no {field}")]
    Field {
        /// The field.
        field: &'static str,
        /// What stands there, cut after 24 characters.
        text: String,
    },
    /// Both ends are the same.
    #[error("account {account} pays itself")]
    Itself {
        /// The account.
        account: u32,
    },
    /// Earlier than the line before.
    #[error("it happened before the line above it")]
    Order,
    /// More than numbers of 32 bits can count.
    #[error("more than {} transactions", u32::MAX)]
    TooMany,
}

/// What is wrong with a ledger, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LedgerError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub what: LedgerProblem,
}

/// Transactions; the one at index i has the number i + 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In the order in which they happened.
    pub transactions: Vec<Transaction>,
}

impl Ledger {
    /// Reads a text. Unlike lines of events, a wrong one ends it: without it, all after it would be about other accounts.
    ///
    /// # Errors
    /// The first line that is wrong, and why.
    pub fn parse(text: &[u8]) -> Result<Self, LedgerError> {
        // The end of the last line begins no further one.
        let body = text.strip_suffix(b"\n").unwrap_or(text);
        let mut lines = body.split(|byte| *byte == b'\n').zip(1_u64..);
        let at = |line, what| LedgerError { line, what };
        if lines.next().is_none_or(|(line, _)| line.trim_ascii_end() != HEADER.as_bytes()) {
            return Err(at(1, LedgerProblem::NoHeader));
        }
        let mut ledger = Self::default();
        for (bytes, line) in lines {
            let transaction = parse_line(bytes.trim_ascii_end()).map_err(|what| at(line, what))?;
            if ledger.transactions.last().is_some_and(|before| before.time_ms > transaction.time_ms) {
                return Err(at(line, LedgerProblem::Order));
            }
            if ledger.transactions.len() >= u32::MAX as usize {
                return Err(at(line, LedgerProblem::TooMany));
            }
            ledger.transactions.push(transaction);
        }
        if ledger.transactions.is_empty() {
            return Err(at(2, LedgerProblem::Empty));
        }
        Ok(ledger)
    }

    /// The text.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for t in &self.transactions {
            let payer = if t.kind == Kind::Deposit { "-".to_owned() } else { t.payer.to_string() };
            let label = t.label.map_or("", Rule::name);
            writeln!(text, "{},{},{payer},{},{},{label}", t.time_ms, t.kind.name(), t.payee, t.cents)
                .expect("a string has room");
        }
        text
    }

    /// All transactions with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, &Transaction)> {
        (1..).zip(&self.transactions)
    }

    /// All accounts that occur, in order.
    #[must_use]
    pub fn accounts(&self) -> Vec<u32> {
        let ends = |t: &Transaction| if t.kind == Kind::Deposit { [t.payee; 2] } else { [t.payer, t.payee] };
        let mut accounts: Vec<u32> = self.transactions.iter().flat_map(ends).collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }
}

fn parse_line(bytes: &[u8]) -> Result<Transaction, LedgerProblem> {
    let line = str::from_utf8(bytes).map_err(|_| LedgerProblem::NotUtf8)?;
    let fields: Vec<&str> = line.split(',').collect();
    let &[time, kind, payer, payee, cents, label] = fields.as_slice() else {
        return Err(LedgerProblem::Fields { found: fields.len() });
    };
    let time_ms = number(time).filter(|time_ms| *time_ms <= TIME_MS_MAX).ok_or_else(|| wrong("time_ms", time))?;
    let kind = Kind::ALL.into_iter().find(|it| it.name() == kind).ok_or_else(|| wrong("kind", kind))?;
    let account = |field, text| number(text).and_then(|it| u32::try_from(it).ok()).ok_or_else(|| wrong(field, text));
    let payer = match kind {
        Kind::Deposit if payer == "-" => 0,
        Kind::Deposit => return Err(wrong("payer of a deposit, which is -", payer)),
        _ => account("payer", payer)?,
    };
    let payee = account("payee", payee)?;
    if kind != Kind::Deposit && payer == payee {
        return Err(LedgerProblem::Itself { account: payer });
    }
    let cents = account("cents", cents).and_then(|it| if it > 0 { Ok(it) } else { Err(wrong("cents", cents)) })?;
    let label = match label {
        "" => None,
        name => Some(Rule::ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| wrong("label", name))?),
    };
    Ok(Transaction { time_ms, kind, payer, payee, cents, label })
}

/// Digits only: no sign, no space.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn wrong(field: &'static str, text: &str) -> LedgerProblem {
    LedgerProblem::Field { field, text: text.chars().take(24).collect() }
}
