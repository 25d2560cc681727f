//! Where a worker that comes belongs, and which run a file is of: one run has all workers, or a cluster decides.

use std::sync::Arc;

use tonic::Status;

use crate::cluster::ClusterHandle;
use crate::services::Services;

/// What is behind the services.
#[derive(Debug, Clone)]
pub enum Placement {
    /// One run, which all workers are for.
    Run(Arc<Services>),
    Cluster(ClusterHandle),
}

impl Placement {
    /// What the run of this name is served with.
    pub(super) async fn services(&self, run: &str) -> Result<Arc<Services>, Status> {
        let services = match self {
            Self::Run(services) => Some(services.clone()).filter(|services| services.run() == run),
            Self::Cluster(cluster) => cluster.services(&run.into()).await,
        };
        services.ok_or_else(|| Status::not_found(format!("there is no run {run} here, or none that goes on")))
    }
}
