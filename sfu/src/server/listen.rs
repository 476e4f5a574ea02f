//! The TCP listeners of the main and the metrics port.

use crate::config::check::Prometheus;
use crate::server::ServeError;
use crate::server::stop::Stopping;
use axum::Router;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Listens on `port` at each address, or everywhere if none is given. With port 0 the system
/// chooses for the first, and the others follow.
pub(super) async fn bind(
    key: &'static str,
    port: u16,
    addresses: &[IpAddr],
) -> Result<Vec<TcpListener>, ServeError> {
    if addresses.is_empty() {
        return everywhere(key, port).await.map(|listener| vec![listener]);
    }
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut port = port;
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            // A machine without IPv6 still serves the other addresses.
            Err(error) if absent(&error) && addresses.len() > 1 => {
                tracing::warn!(%address, %error, "address left out");
            }
            Err(source) => return Err(refused(key, address, source)),
        }
    }
    match addresses.first() {
        Some(ip) if listeners.is_empty() => {
            let source = io::Error::from(io::ErrorKind::AddrNotAvailable);
            Err(refused(key, SocketAddr::new(*ip, port), source))
        }
        _ => Ok(listeners),
    }
}

/// The metrics port, if there is one.
pub(super) async fn bind_metrics(config: &Prometheus) -> Result<Vec<TcpListener>, ServeError> {
    if config.port == 0 {
        return Ok(Vec::new());
    }
    bind("prometheus.port", config.port, &config.bind_addresses).await
}

/// Both families on one socket; IPv4 alone where there is no IPv6.
async fn everywhere(key: &'static str, port: u16) -> Result<TcpListener, ServeError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(both).await {
        Ok(listener) => Ok(listener),
        Err(error) if absent(&error) => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let listener = TcpListener::bind(v4).await;
            listener.map_err(|source| refused(key, v4, source))
        }
        Err(source) => Err(refused(key, both, source)),
    }
}

/// The machine does not have this address or family. (EAFNOSUPPORT has no kind of its own.)
fn absent(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn refused(key: &'static str, address: SocketAddr, source: io::Error) -> ServeError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => "another program uses the port: stop it or choose another",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "the machine does not have this address",
        _ => "choose another address or port",
    };
    ServeError::Listen {
        key,
        address,
        source,
        hint,
    }
}

/// Where they listen.
pub(super) fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect()
}

/// Serves `router` on each of them until told to stop.
pub(super) fn spawn(
    listeners: Vec<TcpListener>,
    router: &Router,
    stopping: &Stopping,
) -> Vec<JoinHandle<()>> {
    listeners
        .into_iter()
        .map(|listener| {
            let service = router
                .clone()
                .into_make_service_with_connect_info::<SocketAddr>();
            let stopped = stopping.clone();
            tokio::spawn(async move {
                let served = axum::serve(listener, service)
                    .with_graceful_shutdown(async move { stopped.begun().await })
                    .await;
                if let Err(error) = served {
                    tracing::error!(%error, "listener ended");
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_share_the_port_the_system_chose() {
        let given: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let listeners = bind("port", 0, &given).await.expect("bound");
        let bound = addresses(&listeners);
        assert_eq!(bound.len(), 2);
        assert_eq!(bound[0].port(), bound[1].port());
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_its_key() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = taken.local_addr().expect("address").port();
        let error = bind("port", port, &[[127, 0, 0, 1].into()])
            .await
            .expect_err("taken");
        let text = error.to_string();
        assert!(
            text.starts_with("port: cannot listen") && text.contains("another program"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_address_the_machine_does_not_have_is_left_out_unless_it_is_the_only_one() {
        let foreign: IpAddr = [192, 0, 2, 123].into();
        let listeners = bind("port", 0, &[[127, 0, 0, 1].into(), foreign])
            .await
            .expect("one");
        assert_eq!(listeners.len(), 1);
        assert!(bind("port", 0, &[foreign]).await.is_err());
        assert!(bind("port", 0, &[foreign, foreign]).await.is_err());
    }
}
