//! How long members of one host take to sum a gradient: a process each, through shared memory and over TCP, in turns.
//!
//! Prints JSON. A round is from where all members have their numbers ready to where the last one has the sum, as in a step.
//! `against_gloo.py` runs this beside Gloo.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use lockstep_worker::collective::{Cancel, Collective, Group, Listener, Membership, SumBuffers, TcpMesh};
use serde_json::{Map, Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// Before the rounds that count: they touch the memory for the first time.
const WARM_UP: usize = 2;

#[derive(Debug, Parser)]
struct Arguments {
    /// Members
    #[arg(long, default_value_t = 2)]
    world: u32,
    /// f32 numbers; ResNet50's gradient by default, 94 MB
    #[arg(long, default_value_t = 23_500_000)]
    length: usize,
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// One way alone
    #[arg(long)]
    only: Option<Way>,
    /// This process is the member with that rank (set by the program itself)
    #[arg(long, hide = true)]
    rank: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Shm,
    Tcp,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Tcp => "tcp",
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    let ways: Vec<Way> = [Way::Shm, Way::Tcp]
        .into_iter()
        .filter(|way| arguments.only.is_none_or(|only| only == *way))
        .collect();
    match arguments.rank {
        Some(rank) => member(&arguments, &ways, rank),
        None => println!("{:#}", report(&arguments, &ways)),
    }
}

/// Starts the members, introduces them to each other, and puts their times together.
fn report(arguments: &Arguments, ways: &[Way]) -> Value {
    let mut members: Vec<Member> = (0..arguments.world).map(Member::start).collect();
    let addresses: Vec<String> = members.iter_mut().map(Member::line).collect();
    members.iter_mut().for_each(|member| member.tell(&addresses.join(" ")));
    let times: Vec<Value> =
        members.iter_mut().map(|member| serde_json::from_str(&member.line()).unwrap()).collect();
    members.into_iter().for_each(Member::finish);

    let mut report = Map::new();
    report.insert("world".into(), json!(arguments.world));
    report.insert("length".into(), json!(arguments.length));
    report.insert("megabytes".into(), json!(arguments.length as f64 * 4e-6));
    for way in ways {
        // A sum is done when the last member has it.
        let last = |round: usize| {
            let member_ms = times.iter().map(|times| times[way.name()][round].as_f64().unwrap());
            member_ms.fold(0.0, f64::max)
        };
        let round = |ms: f64| (ms * 1000.0).round() / 1000.0;
        let rounds_ms: Vec<f64> = (0..arguments.rounds).map(|index| round(last(index))).collect();
        let mut sorted = rounds_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let figures = json!({
            "median_ms": sorted[sorted.len() / 2],
            "least_ms": sorted[0],
            "most_ms": sorted[sorted.len() - 1],
            "rounds_ms": rounds_ms,
        });
        report.insert(way.name().into(), figures);
    }
    report.into()
}

/// A child process that is a member.
struct Member {
    child: Child,
    told: ChildStdin,
    says: BufReader<std::process::ChildStdout>,
}

impl Member {
    fn start(rank: u32) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(std::env::args_os().skip(1)).args(["--rank", &rank.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (told, says) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, told, says }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.told, "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.says.read_line(&mut line).unwrap() > 0, "a member has ended");
        line.trim().to_owned()
    }

    fn finish(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

fn member(arguments: &Arguments, ways: &[Way], rank: u32) {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut peers = String::new();
    stdin().read_line(&mut peers).unwrap();
    let peers: Vec<String> = peers.split_whitespace().map(str::to_owned).collect();

    let mut meshes: Vec<(Way, TcpMesh, SumBuffers)> = Vec::new();
    for (generation, way) in (1..).zip(ways) {
        let blocks = (0..arguments.world).map(|rank| rank..rank + 1).collect();
        let membership = Membership {
            run: "exchange".to_owned(),
            generation,
            token: vec![7; 16],
            rank: rank as usize,
            peers: peers.clone(),
            group: Group::new(rank as usize, arguments.world, blocks).unwrap(),
        };
        let connect = match way {
            Way::Shm => TcpMesh::connect,
            Way::Tcp => TcpMesh::connect_apart,
        };
        let mut mesh = connect(&listener, &membership, PATIENCE, &Cancel::new()).unwrap();
        let shared = mesh.shares_memory_with().len();
        assert_eq!(shared, if *way == Way::Shm { arguments.world as usize - 1 } else { 0 });
        let buffers = mesh.buffers(1, arguments.length).unwrap();
        meshes.push((*way, mesh, buffers));
    }
    let mut times = Map::new();
    for round in 0..WARM_UP + arguments.rounds {
        for (way, mesh, buffers) in &mut meshes {
            let ms = sum(mesh, buffers, rank, arguments.world);
            if round >= WARM_UP {
                let times = times.entry(way.name()).or_insert_with(|| json!([]));
                times.as_array_mut().unwrap().push(json!(ms));
            }
        }
    }
    println!("{}", Value::from(times));
}

/// Milliseconds.
fn sum(mesh: &mut TcpMesh, buffers: &mut SumBuffers, rank: u32, world: u32) -> f64 {
    buffers.sum_mut().fill(rank as f32 + 1.0);
    mesh.all_gather(b"").unwrap();
    let began = Instant::now();
    mesh.all_reduce_in(buffers, 0..buffers.length()).unwrap();
    let took = began.elapsed();
    let expected = (1..=world).sum::<u32>() as f32;
    assert!(buffers.sum().iter().step_by(997).all(|found| *found == expected));
    took.as_secs_f64() * 1e3
}
