//! The kept activations themselves: in memory, on the device where there is room, or in files.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use tch::{Device, Kind, TchError, Tensor};

use super::Lost;
use super::folder::Folder;
use super::tables::{Block, Table};

/// One row, and how it lies: maps as [h, w, C], so that their channels come last without a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    row: Vec<i64>,
    kind: Kind,
}

impl Shape {
    /// Of activations [N, C, h, w] or [N, features].
    pub(super) fn of(activations: &Tensor) -> Self {
        let row = match activations.size()[..] {
            [_, channels, height, width] => vec![height, width, channels],
            ref size => size[1..].to_vec(),
        };
        Self { row, kind: activations.kind() }
    }

    pub(super) fn row_bytes(&self) -> usize {
        let elements: i64 = self.row.iter().product();
        usize::try_from(elements).unwrap_or_default() * self.kind.elt_size_in_bytes()
    }

    fn rows(&self, count: usize) -> Vec<i64> {
        [&[count as i64][..], &self.row].concat()
    }

    /// Activations as rows.
    pub(super) fn pack(activations: &Tensor) -> Tensor {
        match activations.dim() {
            4 => activations.permute([0, 2, 3, 1]).contiguous(),
            _ => activations.contiguous(),
        }
    }

    /// Rows as activations, channels last.
    fn unpack(rows: &Tensor) -> Tensor {
        if rows.dim() == 4 { rows.permute([0, 3, 1, 2]) } else { rows.shallow_clone() }
    }

    fn parse(&self, bytes: &[u8]) -> Tensor {
        let count = bytes.len() / self.row_bytes();
        Tensor::from_data_size(bytes, &self.rows(count), self.kind)
    }
}

/// The bytes of packed rows.
pub(super) fn to_bytes(rows: &Tensor) -> Vec<u8> {
    let rows = rows.to_device(Device::Cpu);
    let mut bytes = vec![0; rows.numel() * rows.kind().elt_size_in_bytes()];
    rows.copy_data_u8(&mut bytes, rows.numel());
    bytes
}

/// Where the rows are.
#[derive(Debug)]
pub(super) enum Rows {
    /// By table.
    Memory(Vec<Tensor>),
    /// Read for every batch; the system's page cache keeps what there is room for.
    Files { lost: Cell<bool> },
}

impl Rows {
    /// On `device`, uninitialised.
    fn allocate(tables: &[Table], shape: &Shape, device: Device) -> Result<Vec<Tensor>, TchError> {
        let empty = |table: &Table| Tensor::f_empty(shape.rows(table.rows()), (shape.kind, device));
        tables.iter().map(empty).collect()
    }

    pub(super) fn in_host_memory(tables: &[Table], shape: &Shape) -> Result<Self, TchError> {
        Ok(Self::Memory(Self::allocate(tables, shape, Device::Cpu)?))
    }

    /// None where it is not a GPU, or one with less than twice the room: training needs some too.
    pub(super) fn on_device(tables: &[Table], shape: &Shape, device: Device) -> Option<Self> {
        if device == Device::Cpu {
            return None;
        }
        let [kept, room] = [(); 2].map(|()| Self::allocate(tables, shape, device).ok());
        room.and(kept).map(Self::Memory)
    }

    pub(super) fn in_files() -> Self {
        Self::Files { lost: Cell::new(false) }
    }

    /// What is to be said of a file that cannot be read any more.
    pub(super) fn lost(&self, path: PathBuf, source: io::Error) -> Lost {
        if let Self::Files { lost } = self {
            lost.set(true);
        }
        Lost { path, source }
    }

    /// Whether that has happened since it was last asked.
    pub(super) fn take_lost(&self) -> bool {
        matches!(self, Self::Files { lost } if lost.replace(false))
    }

    /// Puts a block's packed rows in their place.
    pub(super) fn put(&self, block: &Block, rows: &Tensor) {
        if let Self::Memory(tables) = self {
            let (start, count) = (block.rows.start as i64, block.rows.len() as i64);
            tch::no_grad(|| tables[block.table].narrow(0, start, count).copy_(rows));
        }
    }

    pub(super) fn put_bytes(&self, block: &Block, shape: &Shape, bytes: &[u8]) {
        self.put(block, &shape.parse(bytes));
    }

    /// A block's bytes, where it is kept in memory.
    pub(super) fn bytes(&self, block: &Block) -> Option<Vec<u8>> {
        let Self::Memory(tables) = self else { return None };
        let (start, count) = (block.rows.start as i64, block.rows.len() as i64);
        Some(to_bytes(&tables[block.table].narrow(0, start, count)))
    }
}

/// What is needed to read rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) rows: &'a Rows,
    pub(super) shape: &'a Shape,
    pub(super) folder: &'a Folder,
    pub(super) blocks: &'a [Block],
    pub(super) device: Device,
}

impl Source<'_> {
    /// The activations of these rows of a table, in that order, on the device.
    pub(super) fn select(&self, number: usize, table: &Table, rows: &[usize]) -> Result<Tensor, Lost> {
        let selected = match self.rows {
            Rows::Memory(tables) => {
                let kept = &tables[number];
                let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
                kept.index_select(0, &Tensor::from_slice(&index).to_device(kept.device()))
            }
            Rows::Files { .. } => {
                let row_bytes = self.shape.row_bytes();
                let mut bytes = vec![0; rows.len() * row_bytes];
                for (row, out) in rows.iter().zip(bytes.chunks_mut(row_bytes)) {
                    let (block, within) = table.block_of(*row);
                    let name = &self.blocks[block].name;
                    let read = self.folder.read(name, (within * row_bytes) as u64, out);
                    read.map_err(|source| self.rows.lost(self.folder.path().join(name), source))?;
                }
                self.shape.parse(&bytes)
            }
        };
        Ok(Shape::unpack(&selected.to_device(self.device)))
    }

    /// The same of rows that follow one another.
    pub(super) fn range(&self, number: usize, table: &Table, rows: Range<usize>) -> Result<Tensor, Lost> {
        match self.rows {
            Rows::Memory(tables) => {
                let part = tables[number].narrow(0, rows.start as i64, rows.len() as i64);
                Ok(Shape::unpack(&part.to_device(self.device)))
            }
            Rows::Files { .. } => self.select(number, table, &rows.collect::<Vec<_>>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Split;
    use crate::trainer::prefix::tables::{Views, lay_out};

    /// Activations [4, 2, 3, 1] or [4, 2] of each block, all different.
    fn activations(block: usize, maps: bool) -> Tensor {
        let size = if maps { vec![4, 2, 3, 1] } else { vec![4, 2] };
        let values = Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu));
        (values + 100.0 * block as f64).view(size.as_slice()).to_kind(Kind::BFloat16)
    }

    #[test]
    fn files_give_the_same_rows_as_memory() {
        let ids: Vec<u32> = (0..8).collect();
        let (tables, blocks) = lay_out(&[(Split::Train, &ids, Views::Both)], 4);
        for maps in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let mut folder = Folder::new(dir.path(), &[1; 32]);
            let shape = Shape::of(&activations(0, maps));
            let memory = Rows::in_host_memory(&tables, &shape).unwrap();
            for (number, block) in blocks.iter().enumerate() {
                let rows = Shape::pack(&activations(number, maps));
                memory.put(block, &rows);
                assert!(folder.store(&block.name, &to_bytes(&rows)));
                assert_eq!(memory.bytes(block), Some(to_bytes(&rows)));
            }
            let files = Rows::in_files();
            let both = [&memory, &files].map(|rows| {
                let (shape, folder, blocks) = (&shape, &folder, &blocks[..]);
                Source { rows, shape, folder, blocks, device: Device::Cpu }
            });
            let wanted = [13, 2, 2, 7];
            let [kept, read] = both.map(|source| source.select(0, &tables[0], &wanted).unwrap());
            assert_eq!(kept, read);
            assert_eq!(kept.get(0), activations(3, maps).get(1), "row 13 is the second of the fourth block");
            assert!(!maps || kept.permute([0, 2, 3, 1]).is_contiguous(), "channels come last");
            let [kept, read] = both.map(|source| source.range(0, &tables[0], 6..11).unwrap());
            assert_eq!(kept, read);

            std::fs::remove_file(folder.path().join(&blocks[3].name)).unwrap();
            assert!(both[1].select(0, &tables[0], &wanted).is_err());
            assert!(files.take_lost() && !files.take_lost() && !memory.take_lost());
        }
    }
}
