//! Memory for activations that steps use again and again: fresh pages from the system would cost more than writing them.

use tch::{Device, Kind, Tensor};

/// Grows to the largest batch that it has held.
#[derive(Debug)]
pub(super) struct Buffer {
    kind: Kind,
    memory: Option<Tensor>,
}

impl Buffer {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, memory: None }
    }

    /// A dense tensor of this shape over the buffer's memory, with whatever that holds. The one before is overwritten
    /// along with it.
    pub(super) fn tensor(&mut self, shape: &[i64]) -> Tensor {
        let len = shape.iter().product();
        let memory = match self.memory.take() {
            Some(memory) if memory.numel() as i64 >= len => memory,
            _ => Tensor::empty([len], (self.kind, Device::Cpu)),
        };
        let tensor = memory.narrow(0, 0, len).view(shape);
        self.memory = Some(memory);
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_batch_takes_the_same_memory() {
        let mut buffer = Buffer::new(Kind::Float);
        let first = buffer.tensor(&[4, 3]);
        let second = buffer.tensor(&[2, 3]);
        assert_eq!((second.size(), second.data_ptr()), (vec![2, 3], first.data_ptr()));
        assert_eq!(buffer.tensor(&[5, 3]).numel(), 15);
    }
}
