//! The ways in which a process of the world ends, and what comes after it.

use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::{CrashVariant, DiskModel};

use super::super::history::KEYSPACES;
use super::super::random::mix;
use super::World;

impl World {
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        self.tickets.clear();
        self.timed.clear();
        self.keyspaces = [const { None }; KEYSPACES.len()];
        match self.db().close() {
            Ok(()) if self.latched => return Err(self.lie("close said OK")),
            Ok(()) => self.all_durable(),
            Err(error) if self.struck() == 0 => return Err(format!("close failed: {error}")),
            Err(_) => {}
        }
        self.db = None;
        self.open()
    }

    pub(super) fn kill(&mut self) -> Result<(), String> {
        let trace = self.sim.trace();
        self.boots += 1;
        let sim = SimVfs::after_kill(&trace, trace.len(), mix(self.seed, self.boots));
        self.restart(sim)
    }

    /// The power goes, and comes back.
    pub fn power_cut(&mut self, variant: CrashVariant, model: DiskModel) -> Result<(), String> {
        self.boots += 1;
        let (point, seed) = (self.sim.point(), mix(self.seed, self.boots));
        let image = self.sim.crash_image(model, point, variant, seed);
        self.promise.acknowledged = self.promise.durable;
        self.restart(SimVfs::from_image(image, mix(self.seed, !self.boots)))
    }

    fn restart(&mut self, sim: SimVfs) -> Result<(), String> {
        self.tickets.clear();
        self.timed.clear();
        self.keyspaces = [const { None }; KEYSPACES.len()];
        // What the old process does from here on is on a machine that nobody looks at.
        self.db = None;
        self.sim = self.setup.on(sim);
        self.open()
    }
}
