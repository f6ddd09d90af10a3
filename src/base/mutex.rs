//! A mutex whose poison does not matter: what it holds is whole after every statement, so a panic of another thread left
//! nothing half done.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lock `mutex`, whatever became of those that had it before.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn poison_does_not_matter() {
        let mutex = Mutex::new(1);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _held = mutex.lock().unwrap();
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(thread.join().is_err());
        });
        assert!(mutex.is_poisoned());
        *lock(&mutex) += 1;
        assert_eq!(*lock(&mutex), 2);
    }
}
