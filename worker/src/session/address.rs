//! Where the other members reach this one: what it was told to say, or what can be found out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::UdpSocket;

/// An address to be told to others: `HOST`, or `HOST:PORT` where the port that they see is another than the one listened
/// on, as behind a container's port mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: Option<u16>,
}

/// Not `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is neither HOST nor HOST:PORT ([HOST]:PORT for an IPv6 address)")]
pub struct NotAnAddress;

impl FromStr for Advertised {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(NotAnAddress)?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(NotAnAddress)?) })
            }
            // More than one colon: an IPv6 address without brackets, so without a port.
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or(NotAnAddress));
        let is_ip = host.parse::<IpAddr>().is_ok();
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || "/[]".contains(c)) {
            return Err(NotAnAddress);
        }
        if host.contains(':') && !is_ip {
            return Err(NotAnAddress);
        }
        Ok(Self { host: host.to_owned(), port: port.transpose()? })
    }
}

impl Advertised {
    /// What is said while the data plane listens on `port`.
    fn with_port(&self, port: u16) -> String {
        let port = self.port.unwrap_or(port);
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

/// Where to listen when nobody has said: on loopback where the others are sure to be there too, else everywhere. They prove
/// themselves wherever they come from.
pub(super) async fn listened_on(advertised: Option<&Advertised>, url: &str) -> &'static str {
    let ip = match advertised {
        Some(Advertised { host, .. }) if host == "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        Some(Advertised { host, .. }) => host.parse().ok(),
        None => outward_ip(url).await,
    };
    match ip {
        Some(IpAddr::V4(ip)) if ip.is_loopback() => "127.0.0.1:0",
        Some(IpAddr::V6(ip)) if ip.is_loopback() => "[::1]:0",
        Some(IpAddr::V6(_)) => "[::]:0",
        Some(IpAddr::V4(_)) | None => "0.0.0.0:0",
    }
}

/// host:port for the others, of a data plane that listens on `local`.
pub(super) async fn reachable(advertised: Option<&Advertised>, local: SocketAddr, url: &str) -> String {
    match advertised {
        Some(advertised) => advertised.with_port(local.port()),
        None if local.ip().is_unspecified() => {
            let ip = outward_ip(url).await.unwrap_or(Ipv4Addr::LOCALHOST.into());
            SocketAddr::new(ip, local.port()).to_string()
        }
        None => local.to_string(),
    }
}

/// The address of this machine that packets to the coordinator leave from. Nothing is sent.
async fn outward_ip(url: &str) -> Option<IpAddr> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next()?;
    for target in tokio::net::lookup_host(authority).await.ok()? {
        let any: SocketAddr = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
        let socket = UdpSocket::bind(any).await.ok()?;
        if socket.connect(target).await.is_ok() {
            return socket.local_addr().ok().map(|address| address.ip());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_way_to_the_coordinator_gives_the_address() {
        assert_eq!(outward_ip("http://127.0.0.1:9/x").await, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(outward_ip("127.0.0.1:9").await, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(outward_ip("no port").await, None);
    }

    #[tokio::test]
    async fn what_is_advertised_has_the_port_listened_on_unless_it_names_one() {
        let local = "0.0.0.0:7000".parse().unwrap();
        let cases = [
            ("gpu-3", "gpu-3:7000"),
            ("gpu-3:80", "gpu-3:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("::1", "[::1]:7000"),
            ("[::1]", "[::1]:7000"),
            ("[::1]:80", "[::1]:80"),
        ];
        for (text, told) in cases {
            let advertised = text.parse().unwrap();
            assert_eq!(reachable(Some(&advertised), local, "http://unused").await, told);
        }
        assert_eq!(reachable(None, "127.0.0.1:7".parse().unwrap(), "http://unused").await, "127.0.0.1:7");
    }

    #[tokio::test]
    async fn a_worker_listens_on_loopback_only_where_all_are_sure_to_be_there() {
        let on = async |advertised: &str, url| {
            let advertised: Option<Advertised> = advertised.parse().ok();
            listened_on(advertised.as_ref(), url).await
        };
        let here = "http://127.0.0.1:9";
        for (advertised, url, expected) in [
            ("", here, "127.0.0.1:0"),
            ("127.0.0.1:80", here, "127.0.0.1:0"),
            ("localhost", here, "127.0.0.1:0"),
            ("gpu-3", here, "0.0.0.0:0"),
            ("10.0.0.3:80", here, "0.0.0.0:0"),
            ("fd00::3", here, "[::]:0"),
            ("", "https://nowhere.invalid:9", "0.0.0.0:0"),
        ] {
            assert_eq!(on(advertised, url).await, expected, "{advertised} {url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", ":80", "host:", "host:0", "host:http", "a:b:c", "[::1", "[::1]80", "http://host", "a b"]
        {
            assert_eq!(text.parse::<Advertised>(), Err(NotAnAddress), "{text}");
        }
    }
}
