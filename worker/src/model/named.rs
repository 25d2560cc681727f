//! Flat tensors of the model's layouts by parameter, in torchvision's shapes: gradients, an optimizer's state, an average
//! of the weights. Saved in this form, they can be read by a run, or a phase of one, that trains other parameters.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::layout::signed;
use super::state::{Entry, by_name, check, contiguous_copy};
use super::{ModelError, ResNet};

impl ResNet {
    /// The trained parameters' places in [`Self::trainable`], in order; together they cover it.
    pub fn trainable_ranges(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let trained = self.layout.slots.iter().filter(|slot| slot.trainable);
        trained.map(|slot| (slot.name.as_str(), slot.start..slot.start + slot.len))
    }

    /// A flat tensor of the trained parameters' layout (a gradient, a momentum) by parameter; contiguous copies on the
    /// CPU.
    pub fn named_from_flat(&self, flat: &Tensor) -> Vec<(String, Tensor)> {
        let host = flat.to_device(Device::Cpu);
        let trained = self.layout.slots.iter().filter(|slot| slot.trainable);
        trained.map(|slot| (slot.name.clone(), contiguous_copy(&slot.view(&host)))).collect()
    }

    /// The way back, onto the model's device. It may come from a run that froze other layers: what it lacks is zero,
    /// what is frozen here is ignored.
    ///
    /// # Errors
    /// A tensor of another shape or kind, given twice, or not this model's.
    pub fn flat_from_named(&self, named: &[(String, Tensor)]) -> Result<Tensor, ModelError> {
        let mut given = by_name(named)?;
        let flat = Tensor::f_zeros([signed(self.layout.trainable_len)], (Kind::Float, Device::Cpu))?;
        for slot in &self.layout.slots {
            let Some(tensor) = given.remove(slot.name.as_str()) else { continue };
            check(&slot.name, tensor, &slot.shape, Kind::Float)?;
            if slot.trainable {
                tch::no_grad(|| slot.view(&flat).f_copy_(tensor))?;
            }
        }
        match given.keys().next() {
            Some(name) => Err(self.unexpected(name)),
            None => Ok(flat.f_to_device(self.device)?),
        }
    }

    /// What training moves, the trained parameters and the statistics of BatchNorm layers in training mode, by
    /// `state_dict` name: taken from flat tensors of the layouts of [`Self::trainable`] and [`Self::statistics`]; contiguous
    /// copies on the CPU.
    pub fn named_moving(&self, trainable: &Tensor, statistics: &Tensor) -> Vec<(String, Tensor)> {
        let flats = Moving {
            trainable: trainable.to_device(Device::Cpu),
            statistics: statistics.to_device(Device::Cpu),
        };
        let named = |entry: Entry<'_>| Some((entry.name(), contiguous_copy(&flats.view(&entry)?)));
        self.entries().into_iter().filter_map(named).collect()
    }

    /// The way back, onto the model's device: flat tensors of the layouts of [`Self::trainable`] and
    /// [`Self::statistics`]. The values may come from a phase of the run that trained other parameters: what is not
    /// given is as in the model, what does not move here is ignored.
    ///
    /// # Errors
    /// A tensor of another shape or kind, given twice, or not this model's.
    pub fn moving_from_named(&self, named: &[(String, Tensor)]) -> Result<(Tensor, Tensor), ModelError> {
        let mut given = by_name(named)?;
        let own = |flat: &Tensor| Ok::<_, ModelError>(flat.f_to_device(Device::Cpu)?.copy());
        let flats =
            Moving { trainable: own(&self.buffers.trainable)?, statistics: own(&self.buffers.statistics)? };
        for entry in self.entries() {
            let name = entry.name();
            if matches!(entry, Entry::Tracked(..)) {
                continue;
            }
            let Some(tensor) = given.remove(name.as_str()) else { continue };
            check(&name, tensor, &entry.shape(), Kind::Float)?;
            if let Some(mut place) = flats.view(&entry) {
                tch::no_grad(|| place.f_copy_(tensor))?;
            }
        }
        match given.keys().next() {
            Some(name) => Err(self.unexpected(name)),
            None => {
                Ok((flats.trainable.f_to_device(self.device)?, flats.statistics.f_to_device(self.device)?))
            }
        }
    }

    /// The parts of the flat statistics that move in training, in order.
    pub fn moving_statistics(&self) -> Vec<Range<usize>> {
        self.layout.moving_statistics()
    }

    /// Sets the trained parameters and the moving statistics to those of flat tensors on the model's device. The rest
    /// keeps every bit.
    ///
    /// # Panics
    /// If a tensor has another layout than [`Self::trainable`] or [`Self::statistics`].
    pub fn set_moving(&mut self, trainable: &Tensor, statistics: &Tensor) {
        assert_eq!(trainable.size(), self.buffers.trainable.size(), "parameters have one layout");
        assert_eq!(statistics.size(), self.buffers.statistics.size(), "statistics have one layout");
        tch::no_grad(|| {
            self.buffers.trainable.copy_(trainable);
            self.buffers.changed();
            for range in self.layout.moving_statistics() {
                let part = |flat: &Tensor| flat.narrow(0, signed(range.start), signed(range.len()));
                part(&self.buffers.statistics).copy_(&part(statistics));
            }
        });
    }
}

/// The flat tensors that training moves, on the CPU.
struct Moving {
    trainable: Tensor,
    statistics: Tensor,
}

impl Moving {
    /// The entry's place, if it moves.
    fn view(&self, entry: &Entry<'_>) -> Option<Tensor> {
        match entry {
            Entry::Parameter(slot) => slot.trainable.then(|| slot.view(&self.trainable)),
            Entry::Mean(norm) => norm.training.then(|| norm.mean(&self.statistics)),
            Entry::Variance(norm) => norm.training.then(|| norm.variance(&self.statistics)),
            Entry::Tracked(..) => None,
        }
    }
}
