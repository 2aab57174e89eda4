//! Rich (boolean) dependencies: `(a >= 1 or (b and c))`, `(x if y else z)`.
//!
//! Grammar: "Boolean dependencies" of rpm's manual. Parsing is total: a text that is not a valid
//! expression gives its capabilities without operators, so a new operator of rpm loses no name.

use crate::rpm::evr::Capability;

/// Deeper ones are read as a flat list: no package nests them so.
const DEPTH_LIMIT: usize = 16;

/// A requirement, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rich {
    /// One capability.
    One(Capability),
    /// All of them must hold.
    All(Vec<Rich>),
    /// Any of them will do, or each holds under a condition: which of them matter, only a solver knows.
    Perhaps(Vec<Rich>),
    /// One package must meet all of the first and none of the second.
    Same(Vec<Rich>, Vec<Rich>),
}

impl Rich {
    /// Parses a requirement.
    pub fn of(requirement: &Capability) -> Self {
        if !requirement.is_rich() {
            return Self::One(requirement.clone());
        }
        let tokens = tokens(&requirement.name);
        let mut rest = &tokens[..];
        match group(&mut rest, 0) {
            Some(rich) if rest.is_empty() => rich,
            _ => Self::Perhaps(capabilities(&tokens)),
        }
    }

    /// The capabilities without which it cannot be met.
    pub fn needed(&self) -> Vec<&Capability> {
        match self {
            Self::One(one) => vec![one],
            Self::All(parts) | Self::Same(parts, _) => {
                parts.iter().flat_map(Self::needed).collect()
            }
            Self::Perhaps(_) => Vec::new(),
        }
    }

    /// Every capability that is named in it.
    pub fn capabilities(&self) -> Vec<&Capability> {
        match self {
            Self::One(one) => vec![one],
            Self::All(parts) | Self::Perhaps(parts) => {
                parts.iter().flat_map(Self::capabilities).collect()
            }
            Self::Same(with, without) => {
                with.iter().chain(without).flat_map(Self::capabilities).collect()
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Operator(&'static str),
    /// A capability, with its version.
    Name(String),
}

fn tokens(text: &str) -> Vec<Token> {
    const OPERATORS: [&str; 7] = ["and", "or", "if", "unless", "else", "with", "without"];
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        // A parenthesis of its own belongs to the expression, `pkgconfig(x)` to a name.
        let inner = word.trim_start_matches('(');
        tokens.extend((inner.len()..word.len()).map(|_| Token::Open));
        let open = inner.matches('(').count();
        let surplus = inner.matches(')').count().saturating_sub(open);
        let at_end = inner.len() - inner.trim_end_matches(')').len();
        let closed = surplus.min(at_end);
        let inner = &inner[..inner.len() - closed];
        match (OPERATORS.into_iter().find(|known| *known == inner), tokens.last_mut()) {
            (Some(operator), _) => tokens.push(Token::Operator(operator)),
            (None, _) if inner.is_empty() => {}
            (None, Some(Token::Name(name))) => *name = format!("{name} {inner}"),
            (None, _) => tokens.push(Token::Name(inner.to_owned())),
        }
        tokens.extend((0..closed).map(|_| Token::Close));
    }
    tokens
}

fn capabilities(tokens: &[Token]) -> Vec<Rich> {
    let name = |token: &Token| match token {
        Token::Name(name) => Capability::parse(name).map(Rich::One),
        _ => None,
    };
    tokens.iter().filter_map(name).collect()
}

/// `( operand [operator operand]... )`; `None` if there is none at the beginning of `rest`.
fn group(rest: &mut &[Token], depth: usize) -> Option<Rich> {
    if depth > DEPTH_LIMIT || take(rest)? != Token::Open {
        return None;
    }
    let mut operands = vec![operand(rest, depth)?];
    let mut operators = Vec::new();
    loop {
        match take(rest)? {
            Token::Close => return joined(operands, &operators),
            Token::Operator(operator) => {
                operators.push(operator);
                operands.push(operand(rest, depth)?);
            }
            Token::Open | Token::Name(_) => return None,
        }
    }
}

fn take(rest: &mut &[Token]) -> Option<Token> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(first.clone())
}

fn operand(rest: &mut &[Token], depth: usize) -> Option<Rich> {
    match rest.first()? {
        Token::Open => group(rest, depth + 1),
        Token::Name(name) => {
            let one = Capability::parse(name).map(Rich::One);
            *rest = &rest[1..];
            one
        }
        Token::Close | Token::Operator(_) => None,
    }
}

/// Operands between operators; rpm chains `and`, `or` and `with` with themselves only.
fn joined(mut operands: Vec<Rich>, operators: &[&str]) -> Option<Rich> {
    let all_are = |wanted: &str| operators.iter().all(|operator| *operator == wanted);
    match operators.first() {
        None => operands.pop(),
        Some(&"and") if all_are("and") => Some(Rich::All(operands)),
        Some(&"with") if all_are("with") => Some(Rich::Same(operands, Vec::new())),
        Some(&"without") if operators.len() == 1 => {
            let without = operands.split_off(1);
            Some(Rich::Same(operands, without))
        }
        Some(_) => Some(Rich::Perhaps(operands)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(text: &str) -> Rich {
        Rich::of(&Capability::parse(text).unwrap())
    }

    fn named(text: &str) -> Vec<String> {
        of(text).capabilities().into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn expressions_are_taken_apart() {
        let one = |text: &str| Rich::One(Capability::parse(text).unwrap());
        assert_eq!(of("make >= 4"), one("make >= 4"));
        assert_eq!(of("(a)"), one("a"));
        assert_eq!(
            of("(a >= 1 and (pkgconfig(b) or c(d)(64bit)))"),
            Rich::All(vec![
                one("a >= 1"),
                Rich::Perhaps(vec![one("pkgconfig(b)"), one("c(d)(64bit)")])
            ])
        );
        assert_eq!(of("(x if y else z)"), Rich::Perhaps(vec![one("x"), one("y"), one("z")]));
        assert_eq!(
            of("(a >= 1 with a < 2)"),
            Rich::Same(vec![one("a >= 1"), one("a < 2")], vec![])
        );
        assert_eq!(of("(a without b)"), Rich::Same(vec![one("a")], vec![one("b")]));
    }

    #[test]
    fn every_name_is_found_whatever_is_written() {
        assert_eq!(named("(a >= 1 if (pkgconfig(b) or c))"), ["a >= 1", "pkgconfig(b)", "c"]);
        // Not an expression, or one of a later rpm.
        assert_eq!(named("(a b or"), ["a b"]);
        assert_eq!(named("(a and b or c)"), ["a", "b", "c"]);
        assert!(named("(").is_empty() && named("(()))").is_empty() && named("(and or)").is_empty());
        let deep = format!("{}a{}", "(".repeat(9_999), ")".repeat(9_999));
        assert_eq!(named(&deep), ["a"]);
    }
}
