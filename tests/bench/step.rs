//! What a replica's step costs on one core: forward and backward of one shard, without data, exchange or update.
//!
//! `cargo bench -p lockstep-worker --bench step -- --help`

use std::time::Instant;

use clap::Parser;
use lockstep_worker::model::{Freezing, FrozenBatchNorm, ModelName, ModelSpec, Precision, ResNet, Trainable};
use tch::{Device, Kind, Tensor};

#[derive(Debug, Parser)]
struct Args {
    #[arg(long, default_value = "resnet50")]
    model: ModelName,
    #[arg(long, default_value_t = 100)]
    samples: i64,
    /// Pixels.
    #[arg(long, default_value_t = 32)]
    size: i64,
    /// bfloat16 activations and convolutions instead of f32.
    #[arg(long)]
    bf16: bool,
    /// Only parameters whose names start with one of these are trained, the rest is frozen in eval mode.
    #[arg(long, value_delimiter = ',')]
    trained: Vec<String>,
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[arg(long, default_value_t = 1)]
    threads: i32,
    /// `cargo bench` passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tch::set_num_threads(args.threads);
    let precision = if args.bf16 { Precision::Bf16 } else { Precision::Fp32 };
    let spec = ModelSpec { precision, ..ModelSpec::new(args.model, 10) };
    let names = spec.parameter_names().into_iter();
    let wanted = |name: &String| args.trained.iter().any(|prefix| name.starts_with(prefix));
    let trainable = match args.trained.is_empty() {
        true => Trainable::All,
        false => Trainable::Named(names.filter(wanted).collect()),
    };
    let freezing = Freezing { trainable, frozen_batch_norm: FrozenBatchNorm::Eval };
    let mut model = ResNet::new(spec, &freezing, Device::Cpu)?;
    model.init(1);
    let images = Tensor::randn([args.samples, args.size, args.size, 3], (Kind::Float, Device::Cpu));
    let images = images.permute([0, 3, 1, 2]);
    let labels = Tensor::arange(args.samples, (Kind::Int64, Device::Cpu)).remainder(10);
    let gradient = model.new_gradient();

    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for step in 0..=args.steps {
        let started = Instant::now();
        let (logits, tape) = model.forward_train(&images);
        let forward = started.elapsed();
        let loss = logits.cross_entropy_for_logits(&labels);
        model.backward(tape, &loss, &gradient, |_| Ok::<_, anyhow::Error>(()))?;
        let whole = started.elapsed();
        // What the optimizer's change of the weights costs the next step.
        let _ = model.trainable_mut();
        // The first one takes the memory.
        if step > 0 {
            for (times, time) in times.iter_mut().zip([forward, whole - forward, whole]) {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    for (name, mut times) in ["forward", "backward", "whole"].into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{name:8} {:8.1} ms (fastest {:.1})", times[times.len() / 2], times[0]);
    }
    Ok(())
}
