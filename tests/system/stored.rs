//! A coordinator whose machine is lost, and the store that has its runs: an S3 server of its own, over HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use crate::home::{Home, WORKER, set};
use crate::process::{Running, await_gone, send, until};
use crate::served::LONG;

/// Where `s3-server.sh` puts it.
const MOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/s3-server/bin/moto_server");

/// The bucket and the folder in it.
const STORE: &str = "s3://bucket/of/tests";

/// An S3 server, gone with the test.
struct Store {
    _server: Running,
    address: SocketAddr,
}

impl Store {
    fn start(home: &Home) -> Self {
        // Free a moment ago; nobody else here takes ports by their numbers.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(MOTO);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        home.surround(&mut command);
        let mut server = Running::start(&mut command);
        server.until("the S3 server", || TcpStream::connect(address).ok());
        let store = Self { _server: server, address };
        assert!(store.ask("PUT", "/bucket").starts_with("HTTP/1.1 200"));
        store
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let host = self.address;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// How many objects have `part` in their names.
    fn count(&self, part: &str) -> usize {
        let listed = self.ask("GET", "/bucket?list-type=2");
        listed.split("<Key>").skip(1).filter(|key| key.split("</Key>").next().unwrap().contains(part)).count()
    }

    /// `lockstep serve` of `home` with this store.
    fn serve(&self, home: &Home, more: &[&str]) -> (Running, String) {
        let mut command = home.lockstep(&["serve", "--listen", "127.0.0.1:0", "--store", STORE]);
        command.args(more);
        self.tell(&mut command);
        let mut coordinator = Running::start(&mut command);
        let output = coordinator.output();
        let address = coordinator.until("its address", || {
            output.read().lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        });
        (coordinator, format!("http://{address}"))
    }

    fn tell(&self, command: &mut Command) {
        let endpoint = format!("http://{}", self.address);
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_ALLOW_HTTP", "true");
        command
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1");
    }
}

fn join(coordinator: &Running, home: &Home, url: &str, name: &str) -> Running {
    let mut command = Command::new(WORKER);
    command.args(["join", url, "--name", name]);
    home.surround(&mut command);
    coordinator.companion(&mut command)
}

fn ask(coordinator: &Running, home: &Home, url: &str, arguments: &[&str]) {
    let mut command = home.lockstep(arguments);
    command.args(["--coordinator", url]);
    coordinator.beside(&mut command).expect(0);
}

#[test]
fn a_machine_is_lost_and_its_runs_go_on_elsewhere_from_the_store_with_the_same_bits() {
    if !PathBuf::from(MOTO).is_file() {
        eprintln!("skipped: there is no S3 server; tests/system/s3-server.sh brings one");
        return;
    }
    let undisturbed = LONG.undisturbed();
    let beside = Home::new();
    let store = Store::start(&beside);
    let lost = Home::new();
    {
        let (mut coordinator, url) = store.serve(&lost, &[]);
        let _workers = [join(&coordinator, &lost, &url, "w0"), join(&coordinator, &lost, &url, "w1")];
        let recipe = lost.beside("recipe.toml");
        fs::write(&recipe, "").unwrap();
        let mut submit = lost.lockstep(&["submit", recipe.to_str().unwrap(), "-d", "--name", "first"]);
        submit.args(["--workers", "1..2", "--coordinator", &url]);
        set(&mut submit, LONG.settings);
        coordinator.beside(&mut submit).expect(0);
        // The second one is on its way once the entry of the first one is there.
        coordinator
            .until("two checkpoints in the store", || (store.count("manifest.json") > 1).then_some(()));
        let processes = lost.processes();
        send("KILL", &processes);
        coordinator.kill();
        await_gone(&processes);
        fs::remove_dir_all(lost.path()).unwrap();
    }

    // Nobody writes into a store that is not its own.
    let mut other = beside.lockstep(&["serve", "--listen", "127.0.0.1:0", "--store", STORE]);
    store.tell(&mut other);
    Running::start(&mut other).wait().expect(4).says(&["another home", "--restore"]);

    let found = Home::new();
    let (mut coordinator, url) = store.serve(&found, &["--restore"]);
    let _worker = join(&coordinator, &found, &url, "w2");
    ask(&coordinator, &found, &url, &["watch", "first"]);
    let files = found.run_named("first");
    assert_eq!(files.outcome(), undisturbed.outcome);
    files.verify_checkpoints();
    let resumed = files.event("resumed").expect("it goes on from a checkpoint");
    assert!(resumed["position"]["step"].as_u64().unwrap() > 0, "{resumed}");

    // What is over is all there once more, and gone when it is pruned.
    coordinator.until("the run's last files in the store", || (store.count("files/logs/") > 0).then_some(()));
    let pruned = coordinator.beside(&mut found.lockstep(&["prune", "--keep", "0"])).expect(0);
    assert!(pruned.stdout.contains(": 1 run,"), "{}", pruned.stdout);
    until("an empty store", || (store.count("runs/") + store.count("blobs/") == 0).then_some(()));
}
