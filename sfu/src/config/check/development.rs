//! Development mode: what `--dev` changes. (LK: server ops §7.3)

use crate::config::complaint::{Complaints, Place};
use crate::config::keys::{DEVELOPMENT_KEY, DEVELOPMENT_SECRET};
use crate::config::raw::{Value, Values};
use std::net::IpAddr;

/// Adds development mode's defaults where nothing was set.
///
/// Without keys the placeholder keys are used, and then the server listens on loopback only,
/// unless an address was given: then media uses that network alone, so that both match.
pub(super) fn apply(values: &mut Values, complaints: &mut Complaints) {
    if !values.flag("development") {
        return;
    }
    if values.is_set("keys") {
        return;
    }
    let placeholder = vec![(DEVELOPMENT_KEY.into(), DEVELOPMENT_SECRET.into())];
    values.set("keys", Value::Map(placeholder), Place::Development);
    // Its passwords are made with a secret that everybody knows.
    set_new(values, "turn.enabled", Value::Bool(false));
    let given: Vec<IpAddr> = values
        .texts("bind_addresses")
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    if !values.is_set("bind_addresses") {
        loopback(values);
    } else if given.iter().all(|ip| ip.is_loopback()) && !given.is_empty() {
        set_new(values, "rtc.enable_loopback_candidate", Value::Bool(true));
    } else {
        let cause = "placeholder keys on an address that others can reach: anyone may join";
        let fix = "set keys before anyone else uses this server";
        complaints.warning("bind_addresses", values.place("bind_addresses"), cause, fix);
        networks(values, &given);
    }
}

fn loopback(values: &mut Values) {
    let loopback = Value::Texts(vec!["127.0.0.1".into(), "::1".into()]);
    values.set("bind_addresses", loopback, Place::Development);
    set_new(values, "rtc.enable_loopback_candidate", Value::Bool(true));
}

/// `<bind>/24` for every real IPv4 address given.
fn networks(values: &mut Values, given: &[IpAddr]) {
    let real = |ip: &&IpAddr| ip.is_ipv4() && !ip.is_unspecified() && !ip.is_loopback();
    let networks: Vec<String> = given
        .iter()
        .filter(real)
        .map(|ip| format!("{ip}/24"))
        .collect();
    if !networks.is_empty() {
        set_new(values, "rtc.ips.includes", Value::Texts(networks));
    }
}

fn set_new(values: &mut Values, path: &'static str, value: Value) {
    if !values.is_set(path) {
        values.set(path, value, Place::Development);
    }
}
