//! A TCP proxy whose connections can be cut or held up: what a bad network does to processes that are well.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::cluster::{address, start_by};
use crate::home::{HOME, Home, WORKER};
use crate::processes::{has_arguments, listening, with_variable};

/// Stands before one listener until it is let go of.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
}

/// What its threads share.
#[derive(Debug, Default)]
struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    gate: Gate,
    /// Both ends of each connection that passes.
    ends: Vec<TcpStream>,
    /// Connections that ever passed.
    passed: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// Nothing moves, and nobody is told.
    Stalled,
    /// The proxy is gone.
    Ended,
}

impl Proxy {
    /// Connections go to where `target` says at the time; as long as it does not know, they are turned away.
    pub(crate) fn new(target: impl Fn() -> Option<SocketAddr> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let link = Arc::new(Link::default());
        let accepting = Arc::clone(&link);
        thread::spawn(move || {
            for near in listener.incoming() {
                if accepting.lock().gate == Gate::Ended {
                    return;
                }
                if let Ok(near) = near
                    && let Some(far) = target().and_then(|target| TcpStream::connect(target).ok())
                {
                    accepting.connect(near, far);
                }
            }
        });
        Self { address, link }
    }

    /// Before whatever coordinator the run in `home` has.
    pub(crate) fn before_the_coordinator(home: &Home) -> Self {
        let run = home.run();
        Self::new(move || address(&run))
    }

    /// Before the data plane of the local worker that is first by name, whom all others dial; it is started by `command` so
    /// that they find the proxy.
    pub(crate) fn before_the_first_worker(home: &Home, command: &mut Command) -> Self {
        let home_path = home.path();
        let proxy = Self::new(move || {
            let mut processes = with_variable(HOME, &home_path).into_iter();
            listening(processes.find(|pid| has_arguments(*pid, ["--name", "worker-0"]))?)
        });
        let words = format!("exec '{WORKER}' \"$@\" --advertise {}", proxy.address);
        start_by(home, command, "worker-0", &words);
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections have ever passed.
    pub(crate) fn passed(&self) -> usize {
        self.link.lock().passed
    }

    /// Closes all connections. New ones pass.
    pub(crate) fn cut(&self) {
        self.link.lock().cut();
    }

    /// Holds up what is under way, and what comes, until [`Proxy::open`].
    pub(crate) fn stall(&self) {
        self.set(Gate::Stalled);
    }

    pub(crate) fn open(&self) {
        self.set(Gate::Open);
    }

    fn set(&self, gate: Gate) {
        self.link.lock().gate = gate;
        self.link.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Gate::Ended);
        self.cut();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, near: TcpStream, far: TcpStream) {
        for end in [&near, &far] {
            end.set_nodelay(true).unwrap();
        }
        let clone = |end: &TcpStream| end.try_clone().unwrap();
        {
            let mut state = self.lock();
            state.passed += 1;
            state.ends.extend([clone(&near), clone(&far)]);
        }
        for (from, to) in [(clone(&near), clone(&far)), (far, near)] {
            let link = Arc::clone(self);
            thread::spawn(move || link.pump(from, to));
        }
    }

    /// Carries bytes one way until an end closes.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let state = self.lock();
            let stalled = |state: &mut State| state.gate == Gate::Stalled;
            drop(self.changed.wait_while(state, stalled).unwrap_or_else(PoisonError::into_inner));
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // One end's close is the other's, so that a process that died is missed at once.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

impl State {
    fn cut(&mut self) {
        for end in self.ends.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
