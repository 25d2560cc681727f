//! What a worker needs before anybody can count on it: the files that the plan names, and a data plane that listens.

use std::sync::Arc;

use super::blobs::{BlobError, Blobs};
use super::presence::Fetcher;
use super::{SessionError, Settings, address};
use crate::collective::Listener;
use crate::collective::device::Opener;
use crate::collective::nccl::Nccl;
use crate::device::DeviceName;
use crate::plan::Plan;
use crate::trainer::{Kept, Pulse, Setup};

/// What a trainer works with. The files that it names are there once [`get_ready`] has succeeded.
pub(super) fn setup(settings: &Settings, plan: &Plan, pulse: &Pulse, kept: &Kept) -> Setup {
    let blobs = Blobs::new(&settings.cache);
    Setup {
        plan: plan.clone(),
        worker: settings.name.clone(),
        device: settings.device,
        opener: opener(settings.device),
        dataset: blobs.path(&plan.data.digest),
        weights: plan.model.weights_digest.as_deref().map(|digest| blobs.path(digest)),
        activations: settings.cache.join("activations"),
        pulse: pulse.clone(),
        kept: kept.clone(),
    }
}

/// The device was opened when the worker started, which brought NCCL along.
fn opener(device: DeviceName) -> Option<Result<Box<dyn Opener>, String>> {
    let DeviceName::Cuda(index) = device else { return None };
    Some(match Nccl::load(index) {
        Ok(nccl) => Ok(Box::new(nccl)),
        Err(error) => Err(error.to_string()),
    })
}

/// Data and weights in the cache, and the data plane open for the worker's life.
pub(super) async fn get_ready(
    settings: &Settings,
    plan: &Plan,
    fetcher: &Fetcher,
) -> Result<(Arc<Listener>, String), SessionError> {
    let blobs = Blobs::new(&settings.cache);
    for digest in plan.blobs() {
        fetcher.persist(async |bulk| blobs.obtain(bulk, digest).await, BlobError::of_the_coordinator).await?;
    }
    let (url, advertised) = (settings.coordinator.url(), settings.advertise.as_ref());
    let listen = match &settings.listen {
        Some(address) => address.as_str(),
        None => address::listened_on(advertised, url).await,
    };
    let refuse = |source| SessionError::Listen { address: listen.to_owned(), source };
    let listener = Listener::bind(listen).map_err(refuse)?;
    let local = listener.local_addr().map_err(refuse)?;
    let address = address::reachable(advertised, local, url).await;
    Ok((Arc::new(listener), address))
}
