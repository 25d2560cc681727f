//! A cluster that is served in this process, and what clients ask of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_coordinator::cluster::Cluster;
use lockstep_coordinator::grpc::serve;
use lockstep_coordinator::grpc::transport::Entrance;
use lockstep_coordinator::home::Home;
use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_client::RunServiceClient;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::worker::{Simulated, Worker};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A run of a few steps, with as many shards as the largest test has workers for one run.
pub(crate) const RECIPE: &str = "
    shards = 4
    batch = 16
    epochs = 2
    data.name = \"shapes\"
    data.train = 64
    data.validation = 16
    data.test = 16
    model.name = \"resnet18\"
    checkpoint.keep = 1
";

pub(crate) struct Server {
    pub(crate) home: PathBuf,
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl Server {
    pub(crate) async fn start(home: &Path) -> Self {
        Self::start_at(home, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(home: &Path, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let opened = Home::open(home).unwrap();
        let claim = opened.claim().unwrap();
        let blobs = opened.blobs.clone();
        let (cluster, handle) = tokio::task::block_in_place(|| Cluster::open(opened, address)).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        // A runtime of its own: when it ends, so does everything, as with a process.
        let serving = tokio::task::spawn_blocking(move || {
            let listener = listener.into_std().unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let server =
                    serve(Entrance::new(listener, None).unwrap(), handle, blobs, CancellationToken::new());
                tokio::select! {
                    served = server => served.unwrap(),
                    served = cluster.serve(CancellationToken::new()) => served.unwrap(),
                    () = stopped.cancelled() => {}
                }
            });
            runtime.shutdown_timeout(DEADLINE);
            drop(claim);
        });
        Self { home: home.to_owned(), address, serving, stop }
    }

    /// Ends it as a crash would: nothing is said to anybody.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.stop.cancel();
        (&mut self.serving).await.unwrap();
        self.address
    }

    pub(crate) fn worker(&self, name: &str) -> Worker {
        Worker::start(self.address, Simulated::new(name))
    }

    pub(crate) fn workers(&self, count: usize) -> Vec<Worker> {
        (0..count).map(|number| self.worker(&format!("worker-{number}"))).collect()
    }

    pub(crate) async fn client(&self) -> Client {
        Client { service: RunServiceClient::connect(format!("http://{}", self.address)).await.unwrap() }
    }

    pub(crate) fn run_folder(&self, run: &str) -> PathBuf {
        self.home.join("runs").join(run)
    }
}

impl Drop for Server {
    /// A test's runtime waits for what blocks.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) service: RunServiceClient<Channel>,
}

pub(crate) fn workers(min_workers: u32, max_workers: u32) -> pb::Requirements {
    pb::Requirements { min_workers, max_workers, ..pb::Requirements::default() }
}

impl Client {
    pub(crate) async fn submit(&mut self, run: &str, (min, max): (u32, u32)) -> pb::SubmitResponse {
        let requirements = Some(workers(min, max));
        self.try_submit(pb::SubmitRequest { name: run.into(), requirements, ..recipe(RECIPE) }).await.unwrap()
    }

    /// One that makes no end of steps by itself.
    pub(crate) async fn submit_endless(&mut self, run: &str, (min, max): (u32, u32)) -> pb::SubmitResponse {
        let endless = RECIPE.replace("epochs = 2", "epochs = 1000000");
        let requirements = Some(workers(min, max));
        self.try_submit(pb::SubmitRequest { name: run.into(), requirements, ..recipe(&endless) })
            .await
            .unwrap()
    }

    pub(crate) async fn try_submit(
        &mut self,
        request: pb::SubmitRequest,
    ) -> Result<pb::SubmitResponse, Status> {
        Ok(self.service.submit(request).await?.into_inner())
    }

    pub(crate) async fn run(&mut self, run: &str) -> pb::RunSummary {
        let request = pb::GetRunRequest { run: run.into() };
        self.service.get_run(request).await.unwrap().into_inner().run.unwrap()
    }

    pub(crate) async fn runs(&mut self) -> Vec<String> {
        let listed = self.service.list_runs(pb::ListRunsRequest::default()).await.unwrap().into_inner();
        listed.runs.into_iter().map(|run| run.name).collect()
    }

    pub(crate) async fn stop(&mut self, run: &str) -> pb::RunSummary {
        let request = pb::StopRunRequest { run: run.into() };
        self.service.stop_run(request).await.unwrap().into_inner().run.unwrap()
    }

    pub(crate) async fn resume(&mut self, run: &str, epochs: u32) -> Result<pb::RunSummary, Status> {
        let request = pb::ResumeRunRequest { run: run.into(), epochs, ..pb::ResumeRunRequest::default() };
        Ok(self.service.resume_run(request).await?.into_inner().run.unwrap())
    }

    pub(crate) async fn pool(&mut self) -> Vec<pb::PoolWorker> {
        self.service.list_workers(pb::ListWorkersRequest {}).await.unwrap().into_inner().workers
    }

    pub(crate) async fn drain(&mut self, worker: &str) -> Result<pb::PoolWorker, Status> {
        let request = pb::DrainWorkerRequest { worker: worker.into() };
        Ok(self.service.drain_worker(request).await?.into_inner().worker.unwrap())
    }

    /// Waits until so many workers are in the pool, whatever they do.
    pub(crate) async fn until_pooled(&mut self, count: usize) {
        let mut client = self.clone();
        until("the workers are there", async || client.pool().await.len() == count).await;
    }

    /// Watches a run until it is as wanted.
    pub(crate) async fn until(
        &mut self,
        run: &str,
        wanted: impl Fn(&pb::RunSummary) -> bool,
    ) -> pb::RunSummary {
        let mut seen = None;
        let watching = async {
            let request = pb::WatchRunRequest { run: run.into() };
            let mut stream = self.service.watch_run(request).await.unwrap().into_inner();
            while let Some(response) = stream.message().await.unwrap() {
                let summary = response.run.unwrap();
                if wanted(&summary) {
                    return Some(summary);
                }
                seen = Some(summary);
            }
            None
        };
        let found = tokio::time::timeout(DEADLINE, watching).await;
        let found = found.unwrap_or_else(|_| panic!("{run} is not as wanted in time: {seen:#?}"));
        found.unwrap_or_else(|| panic!("{run} has ended otherwise: {seen:#?}"))
    }

    pub(crate) async fn until_running(&mut self, run: &str, workers: usize) -> pb::RunSummary {
        self.until(run, |summary| {
            let is_training = summary.phase == "training" && summary.position.unwrap_or_default().step > 0;
            is_training && summary.workers.len() == workers
        })
        .await
    }

    pub(crate) async fn until_over(&mut self, run: &str) -> pb::RunSummary {
        let over = [pb::RunState::Done, pb::RunState::Stopped, pb::RunState::Failed];
        self.until(run, |summary| over.contains(&summary.state())).await
    }
}

pub(crate) fn recipe(text: &str) -> pb::SubmitRequest {
    pb::SubmitRequest { recipe: text.to_owned(), ..pb::SubmitRequest::default() }
}

/// Waits for something that cannot notify, by asking again.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        while !is_so().await {
            pause.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("{what} in time"));
}

pub(crate) fn code<T>(result: Result<T, Status>) -> (Code, String) {
    let status = result.err().expect("a refusal");
    (status.code(), status.message().to_owned())
}
