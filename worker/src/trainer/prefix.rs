//! The frozen prefix, paid for once: what the leading layers, which no training changes, make of every picture is computed
//! by all members together, kept, and given to the rest of the network in every step and evaluation.
//!
//! Whether that is done follows from the plan and the network alone ([`choice`]), and what is computed is cut into fixed
//! blocks ([`tables`]): the weights of a run do not depend on who computed what, nor on where it is kept ([`rows`]).
//! Blocks outlive the run as files ([`folder`]) under a key of all that they depend on ([`key`]).

mod choice;
mod fill;
mod folder;
mod key;
mod rows;
mod status;
mod tables;

use std::io;
use std::path::PathBuf;

use tch::{Kind, Tensor};
use tracing::info;

use self::choice::Uncached;
use self::fill::Filling;
use self::folder::Folder;
use self::key::Key;
use self::rows::{Rows, Shape, Source};
use self::tables::{Block, Table, Views};
use super::error::TrainerError;
use super::exchange::Peers;
use super::memory;
use super::pulse::Pulse;
use super::replica::Replica;
use super::samples::Samples;
use crate::model::ResNet;
use crate::plan::{Plan, Split};

/// Of the memory that is free, what all members on a machine may take together.
const SHARE_OF_MEMORY: u64 = 2;

/// A file of activations that was there before.
#[derive(Debug, thiserror::Error)]
#[error("cached activations are gone: {}: {source}", path.display())]
pub struct Lost {
    path: PathBuf,
    source: io::Error,
}

/// Whether all members have all that they need, or pause first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    Ready,
    Paused,
}

/// What this member keeps, for as long as it lives.
#[derive(Debug)]
pub(super) struct Prefix {
    /// Where files are kept; a folder for each key.
    cache: PathBuf,
    kept: Option<Activations>,
    /// What becomes of it, in words, and whether nobody was told yet.
    line: (String, bool),
}

/// The activations at the boundary, by split.
#[derive(Debug)]
pub(super) struct Activations {
    key: Key,
    /// See [`Replica::frozen_digest`].
    frozen: [u8; 32],
    boundary: usize,
    tables: Vec<Table>,
    /// i64, by table, in the order of its samples.
    labels: Vec<Tensor>,
    blocks: Vec<Block>,
    /// By block.
    has: Vec<bool>,
    shape: Shape,
    rows: Rows,
    folder: Folder,
    device: tch::Device,
}

impl Prefix {
    pub(super) fn new(cache: PathBuf) -> Self {
        Self { cache, kept: None, line: (String::new(), false) }
    }

    /// What is kept of the prefix that `replica` has now.
    pub(super) fn of(&self, replica: &Replica) -> Option<&Activations> {
        let kept = self.kept.as_ref()?;
        let fits = kept.boundary == replica.model.boundary() && kept.frozen == replica.frozen_digest();
        fits.then_some(kept).filter(|kept| kept.is_complete())
    }

    /// Makes sure that all members have what their replicas' prefix makes of the samples, where [`Self::open`] has made
    /// room for it. They all call it at the same time.
    ///
    /// # Errors
    /// [`TrainerError`]; a later call goes on with what is there.
    pub(super) fn fill(
        &mut self,
        (samples, replica): (&Samples, &Replica),
        peers: &mut Peers,
        pulse: &Pulse,
    ) -> Result<Filled, TrainerError> {
        let Some(activations) = &mut self.kept else { return Ok(Filled::Ready) };
        activations.forget_lost();
        Filling { activations, model: &replica.model, samples, peers, pulse, computed: 0 }.run()
    }

    /// Makes tables for the replica's prefix, if it may be cached and they are not there. `neighbours` members, this one
    /// included, share this machine's memory.
    pub(super) fn open(
        &mut self,
        plan: &Plan,
        (samples, replica): (&Samples, &Replica),
        neighbours: usize,
    ) -> Result<(), TrainerError> {
        let model = &replica.model;
        let views = match choice::choose(plan, model) {
            Ok(views) => views,
            Err(why) => return self.do_without(&why),
        };
        let block_rows = plan.eval_block.get() as usize;
        let splits = [
            (Split::Train, samples.ids(Split::Train), views),
            (plan.eval_split, samples.ids(plan.eval_split), Views::Plain),
        ];
        let (tables, blocks) = tables::lay_out(&splits, block_rows);
        let frozen = replica.frozen_digest();
        let key = key::key(plan, model, frozen, &tables, block_rows);
        if self.kept.as_ref().is_some_and(|kept| kept.key == key) {
            return Ok(());
        }
        // First, to make room.
        self.kept = None;
        let shape = shape_behind(model, i64::from(plan.data.image_size.get()));
        let bytes = (tables.iter().map(Table::rows).sum::<usize>() * shape.row_bytes()) as u64;
        if let Err(why) = choice::check_size(bytes) {
            return self.do_without(&why);
        }
        let (rows, place) = place(&tables, &shape, bytes, (model.device(), neighbours))?;
        let name = model.boundary_name().unwrap_or_default();
        self.tell(format!(
            "the frozen prefix is cached: the outputs of {name} are computed once ({:.0} MB {place})",
            bytes as f64 / 1e6
        ));
        let labels = tables.iter().map(|table| samples.labels(table.split, &table.ids));
        self.kept = Some(Activations {
            key,
            frozen,
            boundary: model.boundary(),
            labels: labels.collect::<Result<_, _>>()?,
            has: vec![false; blocks.len()],
            tables,
            blocks,
            shape,
            rows,
            folder: Folder::new(&self.cache, &key),
            device: model.device(),
        });
        Ok(())
    }

    fn do_without(&mut self, why: &Uncached) -> Result<(), TrainerError> {
        self.kept = None;
        self.tell(format!("the frozen prefix is not cached: {why}"));
        Ok(())
    }

    /// Once for as long as it stays so.
    fn tell(&mut self, line: String) {
        if self.line.0 != line {
            info!("{line}");
            self.line = (line, true);
        }
    }

    /// What becomes of the prefix, if that is news.
    pub(super) fn news(&mut self) -> Option<String> {
        std::mem::take(&mut self.line.1).then(|| self.line.0.clone())
    }
}

/// Of what the prefix makes of a picture of `side` pixels per side.
fn shape_behind(model: &ResNet, side: i64) -> Shape {
    let picture = Tensor::zeros([1, side, side, 3], (Kind::Float, model.device()));
    Shape::of(&model.forward_prefix(&picture.permute([0, 3, 1, 2])))
}

/// Where the rows are kept, and how that is told.
fn place(
    tables: &[Table],
    shape: &Shape,
    bytes: u64,
    (device, neighbours): (tch::Device, usize),
) -> Result<(Rows, &'static str), TrainerError> {
    if let Some(rows) = Rows::on_device(tables, shape, device) {
        return Ok((rows, "on the device"));
    }
    let most = memory::available_bytes() / SHARE_OF_MEMORY / neighbours.max(1) as u64;
    if bytes <= most {
        return Ok((Rows::in_host_memory(tables, shape)?, "in memory"));
    }
    Ok((Rows::in_files(), "in files"))
}

impl Activations {
    fn is_complete(&self) -> bool {
        self.has.iter().all(|has| *has)
    }

    /// Files that were there are not to be relied on.
    fn forget_lost(&mut self) {
        if self.rows.take_lost() {
            self.has.fill(false);
        }
    }

    fn source(&self) -> Source<'_> {
        let Self { rows, shape, folder, blocks, device, .. } = self;
        Source { rows, shape, folder, blocks, device: *device }
    }

    fn bytes(&self, number: usize) -> Result<Vec<u8>, Lost> {
        let block = &self.blocks[number];
        self.rows.bytes(block).map_or_else(
            || {
                let mut bytes = vec![0; block.rows.len() * self.shape.row_bytes()];
                let read = self.folder.read(&block.name, 0, &mut bytes);
                read.map_err(|source| self.rows.lost(self.folder.path().join(&block.name), source))?;
                Ok(bytes)
            },
            Ok,
        )
    }

    /// Activations and labels of training samples, each in the view that `mirrored` asks for where there are two.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) fn train_batch(
        &self,
        ids: &[u32],
        mirrored: impl FnOnce() -> Vec<bool>,
    ) -> Result<(Tensor, Tensor), Lost> {
        let table = &self.tables[0];
        let mirrored = if table.shows_both() { mirrored() } else { vec![false; ids.len()] };
        let rows = ids.iter().zip(mirrored).map(|(id, mirrored)| table.row(*id, mirrored));
        let rows: Vec<usize> = rows.collect();
        let samples: Vec<i64> = rows.iter().map(|row| (row % table.ids.len()) as i64).collect();
        let index = Tensor::from_slice(&samples).to_device(self.device);
        Ok((self.source().select(0, table, &rows)?, self.labels[0].index_select(0, &index)))
    }

    /// Activations and labels of samples of an evaluated split that follow one another there; none where it is not kept.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) fn eval_batch(
        &self,
        split: Split,
        samples: std::ops::Range<usize>,
    ) -> Result<Option<(Tensor, Tensor)>, Lost> {
        let evaluated = self.tables.iter().enumerate().skip(1).find(|(_, table)| table.split == split);
        let Some((number, table)) = evaluated else { return Ok(None) };
        let labels = self.labels[number].narrow(0, samples.start as i64, samples.len() as i64);
        Ok(Some((self.source().range(number, table, samples)?, labels)))
    }
}
