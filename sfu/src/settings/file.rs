//! Files a configuration names: read with a limit, the key file with a look at its permissions.

use crate::config::check::AppService;
use crate::config::complaint::{Complaints, Place};
use crate::config::raw::yaml::{self, Body, Entry, MOST_BYTES, Node};
use crate::config::raw::{Value, Values, set_text, table};
use crate::settings::Sources;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Permission bits of everyone who is neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// The text of a file no larger than a configuration may be.
pub(super) fn read_bounded(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let most = MOST_BYTES as u64 + 1;
    let read = file.take(most).read_to_string(&mut text);
    let read = read.map_err(|error| error.to_string())?;
    if read > MOST_BYTES {
        return Err(format!("it is larger than {MOST_BYTES} bytes"));
    }
    Ok(text)
}

/// Replaces `keys` by the content of `key_file`, if one is named.
pub(super) fn read_keys(values: &mut Values, sources: &Sources, complaints: &mut Complaints) {
    let name = values.text("key_file");
    if name.is_empty() {
        return;
    }
    let name = expand(&name, sources);
    let path = Path::new(&name);
    let place = values.place("key_file");
    match std::fs::metadata(path) {
        Ok(meta) if meta.permissions().mode() & OTHERS != 0 => {
            let cause = format!("others may access {name}");
            let fix = format!("run `chmod o-rwx {name}`");
            return complaints.error("key_file", place, cause, fix);
        }
        Ok(_) => {}
        Err(error) => {
            let cause = format!("cannot read {name}: {error}");
            return complaints.error("key_file", place, cause, "");
        }
    }
    let Some(key) = table::find("keys") else {
        return;
    };
    match read_bounded(path) {
        Ok(text) => {
            let place = Place::Line {
                text: name,
                line: 1,
            };
            set_text(values, key, &text, place, complaints);
        }
        Err(error) => {
            let cause = format!("cannot read {name}: {error}");
            complaints.error("key_file", place, cause, "");
        }
    }
}

/// Takes the secrets of TURN servers from the files they name. (LK: server ops §9.6)
pub(super) fn read_turn_secrets(
    values: &mut Values,
    sources: &Sources,
    complaints: &mut Complaints,
) {
    const SERVERS: &str = "rtc.turn_servers";
    let Some(mut records) = values.records(SERVERS) else {
        return;
    };
    let place = values.place(SERVERS);
    for record in &mut records {
        let Some(Value::Text(name)) = record.get("secret_file").cloned() else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        if record.get("secret").is_some_and(|secret| !secret.is_off()) {
            let cause = "secret and secret_file are both set; the file is not read";
            complaints.warning(SERVERS, place.clone(), cause, "remove one of them");
            continue;
        }
        let name = expand(&name, sources);
        match read_bounded(Path::new(&name)) {
            Ok(text) if !text.trim().is_empty() => {
                record.insert("secret", Value::Text(text.trim().to_owned()));
            }
            Ok(_) => {
                let cause = format!("{name} is empty");
                complaints.error(SERVERS, place.clone(), cause, "write the secret into it");
            }
            Err(error) => {
                let cause = format!("cannot read {name}: {error}");
                complaints.error(SERVERS, place.clone(), cause, "");
            }
        }
    }
    values.set(SERVERS, Value::Records(records), place);
}

/// Takes the tokens of an application service from its registration, if one is named.
pub(super) fn read_registration(
    values: &mut Values,
    sources: &Sources,
    complaints: &mut Complaints,
) {
    const FILE: &str = "matrix.app_service.registration_file";
    let Some(name) = AppService::file(values) else {
        return;
    };
    let name = expand(&name, sources);
    let place = values.place(FILE);
    let root = read_bounded(Path::new(&name))
        .and_then(|text| yaml::parse(&text).map_err(|error| error.to_string()));
    let entries = match root.map(|root| root.body) {
        Ok(Body::Map(entries)) => entries,
        Ok(_) => Vec::new(),
        Err(error) => {
            let cause = format!("cannot read {name}: {error}");
            return complaints.error(FILE, place, cause, "");
        }
    };
    for (inside, path) in [
        ("hs_token", "matrix.app_service.hs_token"),
        ("as_token", "matrix.app_service.as_token"),
    ] {
        match entries.iter().find(|entry| entry.name == inside) {
            Some(Entry {
                value:
                    Node {
                        line,
                        body: Body::Scalar(token),
                    },
                ..
            }) => {
                let text = name.clone();
                let place = Place::Line { text, line: *line };
                values.set(path, Value::Text(token.clone()), place);
            }
            _ => {
                let cause = format!("{name} has no {inside}");
                let fix = "make one with `foci jwt registration`";
                complaints.error(FILE, place.clone(), cause, fix);
            }
        }
    }
}

/// `~` and `$NAME` or `${NAME}`, as a shell would; an unset variable is empty.
fn expand(text: &str, sources: &Sources) -> String {
    let mut out = String::new();
    let mut rest = text;
    if let Some(after) = text
        .strip_prefix('~')
        .filter(|after| after.is_empty() || after.starts_with('/'))
    {
        out.push_str(sources.variable("HOME").unwrap_or("~"));
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let end = after
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(after.len());
            after.split_at(end)
        });
        out.push_str(sources.variable(name).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_expanded_as_a_shell_would() {
        let sources = Sources {
            variables: vec![("HOME".into(), "/root".into()), ("D".into(), "/etc".into())],
            ..Sources::default()
        };
        assert_eq!(expand("~/keys", &sources), "/root/keys");
        assert_eq!(expand("$D/k-${D}x$NONE", &sources), "/etc/k-/etcx");
        assert_eq!(expand("/a~b/$", &sources), "/a~b/");
    }
}
