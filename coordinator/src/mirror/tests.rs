//! A home, a store in memory that may fail at any request, and the home that is made of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use lockstep_core::{CheckpointEntry, Entry, History, Outcome, Step, Time};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use tempfile::TempDir;

use super::*;
use crate::cluster;
use crate::driver::fixtures::{damage, position, spec, store_checkpoint};
use crate::run_folder::RunFolder;
use crate::store::CheckpointStore;

/// Fails from the `left`th request on.
#[derive(Debug)]
struct Flaky {
    store: Arc<InMemory>,
    left: Arc<AtomicUsize>,
}

impl Flaky {
    fn ask(&self) -> StoreResult<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Ok(()),
            Err(_) => Err(object_store::Error::Generic { store: "test", source: "it is away".into() }),
        }
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a store that fails")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.ask()?;
        self.store.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.ask()?;
        self.store.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> StoreResult<GetResult> {
        self.ask()?;
        self.store.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, StoreResult<Key>>,
    ) -> BoxStream<'static, StoreResult<Key>> {
        match self.ask() {
            Ok(()) => self.store.delete_stream(keys),
            Err(error) => Box::pin(futures_util::stream::iter([Err(error)])),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.ask() {
            Ok(()) => self.store.list(prefix),
            Err(error) => Box::pin(futures_util::stream::iter([Err(error)])),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> StoreResult<ListResult> {
        self.ask()?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> StoreResult<()> {
        self.ask()?;
        self.store.copy_opts(from, to, options).await
    }
}

/// A home with a run of the name that the fixtures give theirs.
struct Machine {
    _folder: TempDir,
    home: Home,
    journal: SharedJournal,
}

const RUN: &str = crate::driver::fixtures::RUN;

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let journal = cluster::journal(&home).unwrap();
        Self { _folder: folder, home, journal }
    }

    fn write(&self, entries: &[Entry]) {
        crate::journal::Pen::from(self.journal.clone()).append(RUN, Time(1), entries).unwrap();
    }

    fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::open(RunFolder::path_of(&self.home.path, RUN).unwrap().join("checkpoints")).unwrap()
    }

    /// The run makes a step's checkpoint, and drops another's.
    fn store(&self, step: u64, dropped: Option<u64>) {
        store_checkpoint(&self.checkpoints(), step);
        let mut entries =
            vec![Entry::CheckpointStored(CheckpointEntry { position: position(step), size_bytes: 7 })];
        entries.extend(dropped.map(|step| Entry::CheckpointDeleted { step: Step(step) }));
        self.write(&entries);
        if let Some(step) = dropped {
            self.checkpoints().delete(Step(step)).unwrap();
        }
    }

    /// A run with two checkpoints behind it, of which one is left.
    fn with_a_run() -> Self {
        let machine = Self::new();
        let data_digest = machine.home.blobs.insert_bytes(b"pictures").unwrap();
        let origin = lockstep_core::Origin { data_digest, ..lockstep_core::Origin::default() };
        let folder = RunFolder::create(&machine.home.path, RUN).unwrap();
        folder.write_recipe("epochs = 9\n").unwrap();
        machine.write(&[Entry::Created { spec: spec(1), origin }]);
        machine.store(5, None);
        machine
    }

    fn history(&self) -> Option<History> {
        History::from_entries(self.home.journal().unwrap().entries(RUN).unwrap())
    }

    async fn attach(&self, store: impl ObjectStore) -> Result<Mirror, MirrorError> {
        let bucket = Bucket::of(Arc::new(store), "of/tests", "memory://test");
        Mirror::attach(bucket, self.home.clone(), self.journal.clone()).await
    }

    async fn restored(store: &Arc<InMemory>) -> Result<Self, MirrorError> {
        let machine = Self::new();
        let bucket = Bucket::of(store.clone(), "of/tests", "memory://test");
        restore(&bucket, &machine.home, machine.journal.clone()).await.map(|_| machine)
    }
}

fn flaky(store: &Arc<InMemory>, left: usize) -> (Flaky, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(left));
    (Flaky { store: store.clone(), left: left.clone() }, left)
}

async fn pass(mirror: &Mirror) -> Result<(), MirrorError> {
    Passing::new(mirror).pass().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_comes_back_as_it_was() {
    let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
    let mirror = machine.attach(store.clone()).await.unwrap();
    pass(&mirror).await.unwrap();
    machine.store(8, Some(5));
    pass(&mirror).await.unwrap();
    assert!(mirror.state.touched().unwrap().is_empty());

    let restored = Machine::restored(&store).await.unwrap();
    let (before, after) = (machine.home.journal().unwrap(), restored.home.journal().unwrap());
    assert_eq!(after.entries_with_times(RUN).unwrap(), before.entries_with_times(RUN).unwrap());
    restored.checkpoints().verify(Step(8)).unwrap();
    assert_eq!(restored.checkpoints().steps().unwrap(), [Step(8)]);
    let recipe = RunFolder::path_of(&restored.home.path, RUN).unwrap().join("recipe.toml");
    assert_eq!(std::fs::read_to_string(recipe).unwrap(), "epochs = 9\n");
    assert!(restored.home.blobs.verify(&restored.history().unwrap().origin.data_digest).unwrap());
    // What it does from here on goes where the first one's went.
    let mirror = restored.attach(store.clone()).await.unwrap();
    assert!(mirror.state.touched().unwrap().is_empty(), "the store has all of it");
    restored.store(9, None);
    pass(&mirror).await.unwrap();
    let again = Machine::restored(&store).await.unwrap();
    assert_eq!(again.history(), restored.history());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_request_fails_the_store_is_a_home_that_can_go_on_and_the_next_pass_does_the_rest() {
    let mut cut_off = 0;
    for requests in 0.. {
        let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
        pass(&machine.attach(store.clone()).await.unwrap()).await.unwrap();
        machine.store(8, Some(5));
        machine.write(&[Entry::Ended { outcome: Outcome::Done { early: false } }]);
        let whole = machine.home.journal().unwrap().entries(RUN).unwrap();

        let (store_that_fails, left) = flaky(&store, usize::MAX);
        let mirror = machine.attach(store_that_fails).await.unwrap();
        left.store(requests, Ordering::Relaxed);
        let passed = pass(&mirror).await;
        let restored = Machine::restored(&store).await.unwrap();
        let entries = restored.home.journal().unwrap().entries(RUN).unwrap();
        assert!(whole.starts_with(&entries), "after {requests} requests");
        for step in restored.history().unwrap().checkpoints.keys() {
            restored.checkpoints().verify(*step).unwrap();
        }
        if passed.is_ok() {
            assert_eq!(entries, whole);
            break;
        }
        cut_off += 1;
        left.store(usize::MAX, Ordering::Relaxed);
        pass(&mirror).await.unwrap();
        let restored = Machine::restored(&store).await.unwrap();
        assert_eq!(restored.home.journal().unwrap().entries(RUN).unwrap(), whole);
        assert_eq!(restored.checkpoints().steps().unwrap(), [Step(8)]);
    }
    assert!(cut_off > 10, "{cut_off}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_given_up_writes_no_more() {
    let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
    let mirror = machine.attach(store.clone()).await.unwrap();
    pass(&mirror).await.unwrap();
    let restored = Machine::restored(&store).await.unwrap();
    restored.attach(store.clone()).await.unwrap();
    machine.store(8, None);
    assert!(matches!(pass(&mirror).await, Err(MirrorError::Overtaken { .. })));
    // Nor when it starts again.
    assert!(matches!(machine.attach(store.clone()).await, Err(MirrorError::Overtaken { .. })));
    restored.attach(store.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_one_homes_and_a_home_is_not_restored_over_another() {
    let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
    assert!(matches!(Machine::restored(&store).await, Err(MirrorError::Nothing { .. })));
    pass(&machine.attach(store.clone()).await.unwrap()).await.unwrap();
    assert!(matches!(Machine::new().attach(store.clone()).await, Err(MirrorError::OtherHome { .. })));
    let bucket = Bucket::of(store.clone(), "of/tests", "memory://test");
    let over = restore(&bucket, &machine.home, machine.journal.clone()).await;
    assert!(matches!(over, Err(MirrorError::NotEmpty { .. })));
    // A crash between the two places where the token is written locks nobody out.
    let (store_that_fails, _) = flaky(&store, 1);
    assert!(machine.attach(store_that_fails).await.is_err());
    machine.attach(store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_here_is_deleted_there_also_when_its_name_is_used_again() {
    let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
    let mirror = machine.attach(store.clone()).await.unwrap();
    pass(&mirror).await.unwrap();
    let forget = || {
        let deleted = machine.journal.write(|connection| Ok(connection.execute("DELETE FROM entries", [])?));
        assert!(deleted.unwrap() > 0);
    };
    forget();
    machine.write(&[Entry::Created { spec: spec(1), origin: lockstep_core::Origin::default() }]);
    pass(&mirror).await.unwrap();
    let restored = Machine::restored(&store).await.unwrap();
    assert_eq!(restored.history(), machine.history());
    assert!(restored.checkpoints().steps().unwrap().is_empty());
    assert_eq!(mirror.bucket.list(layout::BLOBS).await.unwrap(), [""; 0], "nobody has its pictures any more");

    forget();
    pass(&mirror).await.unwrap();
    assert!(mirror.bucket.list(layout::RUNS).await.unwrap().is_empty());
    assert!(Machine::restored(&store).await.unwrap().history().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_go_with_the_last_run_that_began_with_them_and_come_back_with_the_next() {
    let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
    let origin = machine.history().unwrap().origin;
    let pictures = [layout::blob(&origin.data_digest)];
    let append = |run: &str| {
        let created = Entry::Created { spec: spec(1), origin: origin.clone() };
        crate::journal::Pen::from(machine.journal.clone()).append(run, Time(1), &[created]).unwrap();
    };
    let forget = |run: &'static str| {
        let deleted = machine
            .journal
            .write(move |connection| Ok(connection.execute("DELETE FROM entries WHERE run = ?1", [run])?));
        assert!(deleted.unwrap() > 0);
    };
    append("second");
    let mirror = machine.attach(store.clone()).await.unwrap();
    let mut passing = Passing::new(&mirror);
    let stored = async || mirror.bucket.list(layout::BLOBS).await.unwrap();
    passing.pass().await.unwrap();
    forget("second");
    passing.pass().await.unwrap();
    assert_eq!(stored().await, pictures);
    forget(RUN);
    passing.pass().await.unwrap();
    assert_eq!(stored().await, [""; 0]);
    append("third");
    passing.pass().await.unwrap();
    assert_eq!(stored().await, pictures);
    // What was cut off, or happened while nobody served, is done at the next start.
    mirror.bucket.put(&layout::blob("0123"), vec![1]).await.unwrap();
    Passing::new(&mirror).pass().await.unwrap();
    assert_eq!(stored().await, pictures);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_in_the_store_is_told_or_left_out() {
    let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
    machine.store(8, None);
    let mirror = machine.attach(store.clone()).await.unwrap();
    pass(&mirror).await.unwrap();
    let change = async |key: &str| {
        let mut bytes = mirror.bucket.get(key).await.unwrap().unwrap().to_vec();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        mirror.bucket.put(key, bytes).await.unwrap();
    };
    change(&format!("{}model.safetensors", layout::checkpoint(RUN, Step(8)))).await;
    let restored = Machine::restored(&store).await.unwrap();
    assert_eq!(restored.checkpoints().steps().unwrap(), [Step(5)], "the one before it serves");
    let journal = mirror.bucket.list(&layout::journal(RUN)).await.unwrap();
    change(&journal[0]).await;
    assert!(matches!(Machine::restored(&store).await, Err(MirrorError::Damaged { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_damaged_here_does_not_go_there() {
    let (store, machine) = (Arc::new(InMemory::new()), Machine::with_a_run());
    machine.store(8, None);
    damage(&machine.checkpoints().path(Step(8)).join("model.safetensors"));
    pass(&machine.attach(store.clone()).await.unwrap()).await.unwrap();
    let restored = Machine::restored(&store).await.unwrap();
    assert_eq!(restored.checkpoints().steps().unwrap(), [Step(5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_in_parts_and_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::of(Arc::new(InMemory::new()), "", "memory://test");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for size in [0, 1, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 20_000_000] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        std::fs::write(&from, &bytes).unwrap();
        let sent = bucket.put_file("large", &from).await.unwrap().unwrap();
        assert_eq!(sent.bytes, u64::from(size));
        bucket.fetch("large", &to).await.unwrap();
        assert!(std::fs::read(&to).unwrap() == bytes, "{size} bytes");
    }
    assert_eq!(bucket.put_file("none", &folder.path().join("none")).await.unwrap(), None);
}

#[test]
fn only_urls_of_stores_name_stores() {
    for wrong in ["bucket", "s3:bucket", "s3://", "s3:///prefix", "gs://bucket", "http://host/bucket"] {
        assert!(matches!(Bucket::open(wrong), Err(BucketError::Url { .. })), "{wrong}");
    }
}
