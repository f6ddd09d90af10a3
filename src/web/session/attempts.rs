//! Rate limits for sign-ins.
//!
//! Each address has a few attempts, and gets another one every few seconds; all addresses together have more, and get another
//! one every second. So one attacker cannot lock out other addresses, and many addresses cannot guess faster than that. A
//! successful attempt is given back. Clients without a known address, such as behind a proxy, have only the common attempts.
//!
//! Attackers can use up the common attempts. So a user whose browser has signed in before has separate ones.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::base::mutex;

/// The attempts of an address, and how long it then waits for another one.
const EACH: (u32, Duration) = (10, Duration::from_secs(10));
/// The same for all addresses together.
const ALL: (u32, Duration) = (100, Duration::from_secs(1));
/// How many addresses are remembered, each in some 60 bytes; further ones have only the common attempts.
const MAX_ADDRESSES: usize = 1024;

/// The attempts that are left.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    all: Spent,
    each: HashMap<IpAddr, Spent>,
    /// By user; only configured users get here.
    known: HashMap<String, Spent>,
}

/// How much of an allowance is spent, as the time at which all of it is back.
#[derive(Debug, Clone, Copy, Default)]
struct Spent(Option<Instant>);

impl Spent {
    fn wait(self, (most, every): (u32, Duration), now: Instant) -> Option<Duration> {
        let back = self.0?.saturating_duration_since(now);
        let wait = (back + every).saturating_sub(every * most);
        (!wait.is_zero()).then_some(wait)
    }

    fn spend(&mut self, (_, every): (u32, Duration), now: Instant) {
        self.0 = Some(self.0.map_or(now, |back| back.max(now)) + every);
    }

    fn give_back(&mut self, (_, every): (u32, Duration)) {
        self.0 = self.0.and_then(|back| back.checked_sub(every));
    }

    fn is_back(self, now: Instant) -> bool {
        self.0.is_none_or(|back| back <= now)
    }
}

impl Attempts {
    /// Take an attempt for `from`; the error is how long it has to wait for one.
    pub fn take(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut left = mutex::lock(&self.0);
        let from = from.map(network);
        let own = from.and_then(|from| left.each.get(&from)?.wait(EACH, now));
        if let Some(wait) = own.max(left.all.wait(ALL, now)) {
            return Err(wait);
        }
        left.all.spend(ALL, now);
        let Some(from) = from else { return Ok(()) };
        if left.each.len() >= MAX_ADDRESSES {
            left.each.retain(|_, spent| !spent.is_back(now));
        }
        if left.each.len() < MAX_ADDRESSES || left.each.contains_key(&from) {
            left.each.entry(from).or_default().spend(EACH, now);
        }
        Ok(())
    }

    /// Take an attempt for `user`, whose browser is known. False if there is none.
    pub fn take_known(&self, user: &str, now: Instant) -> bool {
        let mut left = mutex::lock(&self.0);
        let spent = left.known.entry(user.into()).or_default();
        let has_one = spent.wait(EACH, now).is_none();
        if has_one {
            spent.spend(EACH, now);
        }
        has_one
    }

    /// The attempt of `user` was successful.
    pub fn give_back_known(&self, user: &str) {
        if let Some(spent) = mutex::lock(&self.0).known.get_mut(user) {
            spent.give_back(EACH);
        }
    }

    /// The attempt of `from` was successful.
    pub fn give_back(&self, from: Option<IpAddr>) {
        let mut left = mutex::lock(&self.0);
        left.all.give_back(ALL);
        if let Some(spent) = from.and_then(|from| left.each.get_mut(&network(from))) {
            spent.give_back(EACH);
        }
    }
}

/// The network that counts as one address: a host with IPv6 has a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn each_address_has_its_own() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let bad = address("2001:db8::1");
        for _ in 0..EACH.0 {
            assert_eq!(attempts.take(bad, now), Ok(()));
        }
        assert_eq!(attempts.take(bad, now), Err(EACH.1));
        assert_eq!(attempts.take(address("2001:db8::ffff:2"), now), Err(EACH.1));
        for other in [address("2001:db8:0:1::1"), address("192.0.2.1"), None] {
            assert_eq!(attempts.take(other, now), Ok(()), "{other:?}");
        }
        assert_eq!(attempts.take(bad, now + EACH.1), Ok(()));
        assert_eq!(attempts.take(bad, now + EACH.1), Err(EACH.1));
        attempts.give_back(bad);
        assert_eq!(attempts.take(bad, now + EACH.1), Ok(()));
        assert_eq!(attempts.take(bad, now + 100 * EACH.1), Ok(()));
    }

    #[test]
    fn all_have_a_bound_too() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..ALL.0 {
            attempts.take(address(&format!("192.0.2.{n}")), now).unwrap();
        }
        assert_eq!(attempts.take(address("198.51.100.1"), now), Err(ALL.1));
        assert_eq!(attempts.take(None, now), Err(ALL.1));
        assert_eq!(attempts.take(None, now + ALL.1), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let at = |n: u32| now + n * ALL.1 / 100;
        for n in 0..MAX_ADDRESSES as u32 {
            mutex::lock(&attempts.0)
                .each
                .insert(IpAddr::V4(n.into()), Spent(Some(at(n))));
        }
        attempts.take(address("192.0.2.1"), now).unwrap();
        assert_eq!(mutex::lock(&attempts.0).each.len(), MAX_ADDRESSES);
        attempts.take(address("192.0.2.1"), at(5000)).unwrap();
        assert_eq!(mutex::lock(&attempts.0).each.len(), 1);
    }
}
