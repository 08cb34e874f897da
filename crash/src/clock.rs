//! A clock that is set back and forward while a process lives.

use std::time::{Duration, Instant, SystemTime};

use crate::random::Random;

const HOUR: u64 = 3600;

/// A machine that has no battery for its clock begins in 1970, about.
const YEARS: u64 = 56 * 365 * 24 * HOUR;

/// An error of the clock, from one moment of a life on.
#[derive(Debug, Clone, Copy)]
struct Set {
    /// The moment, in milliseconds since the process began.
    at: u64,
    /// The error, in seconds.
    ahead: u64,
    back: u64,
}

/// The clock of a store in one life.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    begun: Instant,
    sets: Vec<Set>,
}

impl Clock {
    /// Returns the clock of a life of a seed. In two of three seeds the clock is never set.
    pub(crate) fn of(seed: u64, life: usize) -> Self {
        let mut sets = Vec::new();
        if Self::is_set(seed) {
            let mut random = Random::of(seed.wrapping_add(life as u64), "clock of a life");
            let mut at = 0;
            for _ in 0..=random.below(4) {
                let (ahead, back) = [(0, 0), (HOUR, 0), (0, HOUR), (YEARS, 0), (0, YEARS)][random.below(5) as usize];
                sets.push(Set { at, ahead, back });
                at += random.below(300);
            }
        }
        Self { begun: Instant::now(), sets }
    }

    /// Returns `true` if the clock is set in some life of a seed.
    pub(crate) fn is_set(seed: u64) -> bool {
        Random::of(seed, "clock").one_in(3)
    }

    pub(crate) fn now(&self) -> SystemTime {
        let lived = self.begun.elapsed().as_millis();
        let set = self.sets.iter().rev().find(|set| u128::from(set.at) <= lived);
        let (ahead, back) = set.map_or((0, 0), |set| (set.ahead, set.back));
        SystemTime::now() + Duration::from_secs(ahead) - Duration::from_secs(back)
    }
}
