//! A DNS server with a few names. (RFC 1035 §4)

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// One name with one record.
#[derive(Clone)]
pub(crate) enum Record {
    /// A or AAAA.
    Address(&'static str, IpAddr),
    /// SRV: priority, port, target.
    Service(&'static str, u16, u16, &'static str),
}

/// The server.
pub(crate) struct DnsServer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl DnsServer {
    pub(crate) async fn start(records: Vec<Record>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let (name, kind) = question(&buffer[..length]);
                seen.lock().expect("not poisoned").push(name.clone());
                let answer = answer(&buffer[..length], &name, kind, &records);
                // Who is gone needs no answer.
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Self { address, asked }
    }

    /// The names asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// Name in lower case without the last dot, and type.
fn question(query: &[u8]) -> (String, u16) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_lowercase());
        at += 1 + length;
    }
    (
        labels.join("."),
        u16::from_be_bytes([query[at + 1], query[at + 2]]),
    )
}

fn answer(query: &[u8], name: &str, kind: u16, records: &[Record]) -> Vec<u8> {
    let of_name = |record: &&Record| match record {
        Record::Address(known, _) | Record::Service(known, ..) => *known == name,
    };
    let known = records.iter().any(|record| of_name(&record));
    let data: Vec<Vec<u8>> = records
        .iter()
        .filter(of_name)
        .filter_map(|record| data(record, kind))
        .collect();
    let end = 12 + name.len() + 2 + 4;
    // Answer, recursion done; no such name.
    let flags: u16 = if known { 0x8180 } else { 0x8183 };
    let mut out = query[..2].to_vec();
    out.extend(flags.to_be_bytes());
    out.extend([0, 1]);
    out.extend((data.len() as u16).to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(&query[12..end]);
    for data in data {
        // The name of the question, class IN, a minute.
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

fn data(record: &Record, kind: u16) -> Option<Vec<u8>> {
    match (record, kind) {
        (Record::Address(_, IpAddr::V4(ip)), A) => Some(ip.octets().to_vec()),
        (Record::Address(_, IpAddr::V6(ip)), AAAA) => Some(ip.octets().to_vec()),
        (Record::Service(_, priority, port, target), SRV) => {
            let mut out = priority.to_be_bytes().to_vec();
            out.extend([0, 0]);
            out.extend(port.to_be_bytes());
            for label in target.split('.') {
                out.push(label.len() as u8);
                out.extend(label.as_bytes());
            }
            if !target.is_empty() {
                out.push(0);
            }
            Some(out)
        }
        _ => None,
    }
}
