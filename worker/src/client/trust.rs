//! What TLS found wrong, told to people: which side does not trust the other, why, and what to do.
//!
//! Trying again mends none of it, so it must be told apart from a network that is down, through all the layers that hand an
//! error on.

use std::error::Error;
use std::io;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// How one side has turned the other away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Distrust {
    /// This worker the coordinator; with a hint.
    OfCoordinator { reason: String, hint: &'static str },
    /// The coordinator this worker.
    OfWorker { reason: String },
}

/// The alerts by which a coordinator says that it does not take this worker's certificate.
const ALERTS: [AlertDescription; 10] = [
    AlertDescription::CertificateRequired,
    AlertDescription::NoCertificate,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];

/// None when TLS has nothing to do with it.
pub(super) fn distrust(error: &(dyn Error + 'static)) -> Option<Distrust> {
    let cause = innermost(error);
    match cause.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(fault)) => Some(of_coordinator(fault)),
        Some(rustls::Error::AlertReceived(alert)) if ALERTS.contains(alert) => Some(of_worker(*alert)),
        Some(rustls::Error::InvalidMessage(_)) => Some(Distrust::OfCoordinator {
            reason: "what answers there does not speak TLS".to_owned(),
            hint: "a coordinator without it has an address that begins with http://",
        }),
        Some(error) => Some(Distrust::OfCoordinator {
            reason: error.to_string(),
            hint: "are both of one version of lockstep?",
        }),
        // HTTP/2 keeps only the words of what broke its connection.
        None => {
            let text = cause.to_string();
            let alert =
                ALERTS.iter().find(|alert| text.contains(&rustls::Error::AlertReceived(**alert).to_string()));
            alert.copied().map(of_worker)
        }
    }
}

fn of_coordinator(fault: &CertificateError) -> Distrust {
    let (reason, hint) = match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "its certificate is from another authority".to_owned(),
            "is --ca the ca.pem of this very cluster?",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "its certificate has expired".to_owned(),
            "the coordinator needs a new one, or this machine's clock is wrong",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("its certificate is not valid yet".to_owned(), "is this machine's clock right?")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "its certificate is for another name".to_owned(),
            "use a name that it was issued for, or have it issued for this one",
        ),
        other => (other.to_string(), "is this the coordinator, and --ca its authority?"),
    };
    Distrust::OfCoordinator { reason, hint }
}

fn of_worker(alert: AlertDescription) -> Distrust {
    let reason = match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it asks for a certificate (--cert FILE --key FILE)".to_owned()
        }
        AlertDescription::CertificateExpired => "this worker's certificate has expired".to_owned(),
        AlertDescription::CertificateRevoked => "this worker's certificate is revoked".to_owned(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "this worker's certificate is from another authority".to_owned()
        }
        other => format!("it does not take this worker's certificate ({other:?})"),
    };
    Distrust::OfWorker { reason }
}

/// The reason beneath the layers that have handed it on.
pub(super) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    loop {
        // An io::Error does not count what it carries as its source.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let carried = carried.map(|carried| carried as &(dyn Error + 'static));
        match carried.or_else(|| error.source()) {
            Some(source) => error = source,
            None => return error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_beneath_what_carries_it_and_in_mere_words() {
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let carried = io::Error::new(io::ErrorKind::InvalidData, expired);
        let Some(Distrust::OfCoordinator { reason, .. }) = distrust(&carried) else { panic!() };
        assert_eq!(reason, "its certificate has expired");
        let words = io::Error::other(rustls::Error::AlertReceived(AlertDescription::UnknownCA).to_string());
        let Some(Distrust::OfWorker { reason }) = distrust(&words) else { panic!() };
        assert_eq!(reason, "this worker's certificate is from another authority");
        assert_eq!(distrust(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
        assert_eq!(distrust(&io::Error::other("tls handshake eof")), None);
    }
}
