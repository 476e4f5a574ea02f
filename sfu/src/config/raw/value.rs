//! Typed values and how they are read from text, and written back.

use crate::config::ports::PortRange;
use crate::config::raw::key::Kind;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// One record of a list: field name and value.
pub type Record = BTreeMap<&'static str, Value>;

/// A value of the type its key asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// [`Kind::Bool`].
    Bool(bool),
    /// [`Kind::Uint`].
    Uint(u64),
    /// [`Kind::Number`].
    Number(f64),
    /// [`Kind::Ports`].
    Ports(PortRange),
    /// [`Kind::Text`], and [`Kind::Secret`], whose key says that it is not to be shown.
    Text(String),
    /// [`Kind::Duration`].
    Duration(Duration),
    /// [`Kind::Addresses`].
    Addresses(Vec<IpAddr>),
    /// [`Kind::Texts`].
    Texts(Vec<String>),
    /// [`Kind::TextMap`] and [`Kind::SecretMap`], in the order written.
    Map(Vec<(String, String)>),
    /// [`Kind::Records`].
    Records(Vec<Record>),
    /// [`Kind::Opaque`]: set, whatever it is.
    Opaque,
}

impl Value {
    /// The value that asks for nothing: off, zero, empty.
    #[must_use]
    pub fn is_off(&self) -> bool {
        match self {
            Self::Bool(on) => !on,
            Self::Uint(n) => *n == 0,
            Self::Number(n) => *n == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::Duration(span) => span.is_zero(),
            Self::Addresses(list) => list.is_empty(),
            Self::Texts(list) => list.is_empty(),
            Self::Map(list) => list.is_empty(),
            Self::Records(list) => list.is_empty(),
            Self::Ports(_) | Self::Opaque => false,
        }
    }

    /// As an operator would write it, secrets masked.
    #[must_use]
    pub fn show(&self, kind: Kind) -> String {
        match self {
            Self::Bool(on) => on.to_string(),
            Self::Uint(n) => n.to_string(),
            Self::Number(n) => n.to_string(),
            Self::Ports(range) => range.to_string(),
            Self::Text(_) if kind == Kind::Secret => "***".to_owned(),
            Self::Text(text) => format!("{text:?}"),
            Self::Duration(span) => write_duration(*span),
            Self::Addresses(list) => {
                let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                list.join(",")
            }
            Self::Texts(list) => format!("{list:?}"),
            Self::Map(list) => show_map(list, kind == Kind::SecretMap),
            Self::Records(list) => show_records(list),
            Self::Opaque => "(set)".to_owned(),
        }
    }
}

fn show_map(list: &[(String, String)], secret: bool) -> String {
    let shown: Vec<String> = list
        .iter()
        .map(|(name, text)| {
            if secret {
                format!("{name:?}: ***")
            } else {
                format!("{name:?}: {text:?}")
            }
        })
        .collect();
    format!("{{{}}}", shown.join(", "))
}

/// Records hold credentials among other things, so only their number and the mime types show.
fn show_records(list: &[Record]) -> String {
    let mimes: Vec<&str> = list
        .iter()
        .filter_map(|record| match record.get("mime") {
            Some(Value::Text(mime)) => Some(mime.as_str()),
            _ => None,
        })
        .collect();
    if mimes.is_empty() {
        format!("({} records)", list.len())
    } else {
        format!("[{}]", mimes.join(", "))
    }
}

/// Where a text stands decides two of Go's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// In a YAML text.
    Yaml,
    /// In a flag or a variable: durations may be whole nanoseconds, `1` and `t` are true.
    CommandLine,
}

/// Reads a scalar. Lists are separated by commas (flags only).
///
/// # Errors
/// What was expected, as a phrase after "expected".
pub fn parse(kind: Kind, text: &str, syntax: Syntax) -> Result<Value, String> {
    let expected = || Err(kind.words().to_owned());
    match kind {
        Kind::Bool => parse_bool(text, syntax).map_or_else(expected, |on| Ok(Value::Bool(on))),
        Kind::Uint(most) => match parse_uint(text) {
            Some(n) if n <= most => Ok(Value::Uint(n)),
            _ => Err(format!("a whole number from 0 to {most}")),
        },
        Kind::Number => match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Ok(Value::Number(n)),
            _ => expected(),
        },
        Kind::Ports => text.parse().map(Value::Ports).map_err(|error| {
            format!("a port such as 7882 or a range such as 7882-7892: it {error}")
        }),
        Kind::Text | Kind::Secret => Ok(Value::Text(text.to_owned())),
        Kind::Duration => parse_duration(text, syntax)
            .map(Value::Duration)
            .ok_or_else(|| "a duration such as 500ms, 2s or 1m30s".to_owned()),
        Kind::Addresses => parse_addresses(text),
        Kind::Texts if syntax == Syntax::CommandLine => Ok(Value::Texts(
            text.split(',').map(|item| item.trim().to_owned()).collect(),
        )),
        Kind::Texts | Kind::TextMap | Kind::SecretMap | Kind::Records | Kind::Opaque => expected(),
    }
}

fn parse_bool(text: &str, syntax: Syntax) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        "1" | "t" | "T" if syntax == Syntax::CommandLine => Some(true),
        "0" | "f" | "F" if syntax == Syntax::CommandLine => Some(false),
        _ => None,
    }
}

/// Decimal digits only, so that `+7` or `7e3` are not taken for something meant.
fn parse_uint(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Addresses, or one name of a host as a text.
fn parse_addresses(text: &str) -> Result<Value, String> {
    if is_host(text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let mut list: Vec<IpAddr> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let ip: IpAddr = part.parse().map_err(|_| {
            "an IP address, or one IPv4 and one IPv6 address as `v4,v6`, or a host name".to_owned()
        })?;
        if list.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            return Err("at most one address of each family".to_owned());
        }
        list.push(ip);
    }
    Ok(Value::Addresses(list))
}

/// Is this the name of a host? What ends in a number is a mistyped address. (RFC 1123 §2.1)
fn is_host(text: &str) -> bool {
    const LABEL: usize = 63;
    const NAME: usize = 253;
    let label = |label: &str| {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=LABEL).contains(&label.len()) && label.bytes().all(sound) && !label.starts_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= NAME
        && text.split('.').all(label)
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Nanoseconds of the units of Go's `time.ParseDuration`, longest name first.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's duration text without a sign.
fn parse_duration(text: &str, syntax: Syntax) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if syntax == Syntax::CommandLine
        && let Some(nanos) = parse_uint(text)
    {
        return Some(Duration::from_nanos(nanos));
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = parse_term(rest)?;
        total = total.checked_add(nanos)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(total))
}

/// One number with its unit; what follows.
fn parse_term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (name, unit) = UNITS
        .iter()
        .find(|(name, _)| rest.starts_with(name) && !continues(rest, name))?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = whole.checked_mul(*unit)?;
    let mut place = *unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(place.checked_mul(u64::from(digit - b'0'))?)?;
    }
    Some((nanos, &rest[name.len()..]))
}

/// `m` is not the unit where `ms` stands.
fn continues(text: &str, name: &str) -> bool {
    text[name.len()..].starts_with(|c: char| !c.is_ascii_digit() && c != '.')
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A duration as Go writes it, in whole units from hours down to nanoseconds.
#[must_use]
pub fn write_duration(span: Duration) -> String {
    let mut nanos = span.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let units: [(&str, u128); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    for (name, unit) in units {
        let count = nanos / unit;
        nanos %= unit;
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(out, "{count}{name}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(text: &str) -> Option<Duration> {
        parse_duration(text, Syntax::Yaml)
    }

    #[test]
    fn durations_are_go_s() {
        assert_eq!(span("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(span("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(span("1.5h"), Some(Duration::from_secs(5400)));
        assert_eq!(span("7.5s"), Some(Duration::from_millis(7500)));
        assert_eq!(span(".5s"), Some(Duration::from_millis(500)));
        assert_eq!(span("10µs"), Some(Duration::from_micros(10)));
        assert_eq!(span("0"), Some(Duration::ZERO));
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "5d",
            "1.s5",
            "5ms3",
            "99999999999h",
            ".",
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn on_the_command_line_a_bare_number_is_nanoseconds() {
        let of = |text| parse_duration(text, Syntax::CommandLine);
        assert_eq!(of("10000000000"), Some(Duration::from_secs(10)));
        assert_eq!(of("10s"), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        let error = parse(Kind::Uint(127), "128", Syntax::Yaml).expect_err("too large");
        assert!(error.contains("127"), "{error}");
        assert!(parse(Kind::Uint(127), "-1", Syntax::Yaml).is_err());
        assert!(
            parse(
                Kind::Uint(u64::MAX),
                "99999999999999999999999",
                Syntax::Yaml
            )
            .is_err()
        );
    }

    #[test]
    fn two_addresses_of_one_family_are_refused() {
        let of = |text| parse(Kind::Addresses, text, Syntax::Yaml);
        assert!(of("192.0.2.1,2001:db8::1").is_ok());
        assert!(of("192.0.2.1").is_ok());
        assert!(of("192.0.2.1,192.0.2.2").is_err());
    }

    #[test]
    fn a_host_name_stands_in_for_addresses_and_a_mistyped_address_does_not() {
        let of = |text| parse(Kind::Addresses, text, Syntax::Yaml);
        for name in ["home.example.org", "sfu-1", "localhost"] {
            assert_eq!(of(name), Ok(Value::Text(name.to_owned())));
        }
        for text in ["192.0.2", "192.0.2.256", "a,b", "a..b", "-a.b", "", "x y"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_masked_when_shown() {
        let map = Value::Map(vec![("key".into(), "hunter2".into())]);
        assert!(!map.show(Kind::SecretMap).contains("hunter2"));
        assert!(
            !Value::Text("hunter2".into())
                .show(Kind::Secret)
                .contains("hunter2")
        );
        let record = Record::from([("credential", Value::Text("hunter2".into()))]);
        assert!(
            !Value::Records(vec![record])
                .show(Kind::Records)
                .contains("hunter2")
        );
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(nanos in any::<u64>()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(span(&write_duration(duration)), Some(duration));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,32}") {
            for kind in [
                Kind::Bool, Kind::Uint(9), Kind::Number, Kind::Ports, Kind::Text,
                Kind::Duration, Kind::Addresses, Kind::Texts, Kind::Records,
            ] {
                let _ = parse(kind, &text, Syntax::Yaml);
                let _ = parse(kind, &text, Syntax::CommandLine);
            }
        }

        #[test]
        fn anything_like_a_duration_is_read_or_refused(text in "[0-9.nuµmsh]{0,40}") {
            let _ = span(&text);
        }
    }
}
