//! A connection's waker, whose wakes can be held back while a body is read. hyper wakes its own task whenever a piece of a body is taken; behind
//! the last piece that would be a whole poll of the connection for nothing. It refuses to know what is polled.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

thread_local! {
    static HOLD: Cell<Hold> = const { Cell::new(Hold::Off) };
}

/// Whether wakes of this thread's connections are held back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Off,
    On,
    /// One has been held back.
    Woken,
}

/// The waker that a connection is polled with.
pub(crate) struct Waking(Arc<Task>, Waker);

struct Task(Waker);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if HOLD.get() == Hold::Off {
            self.0.wake_by_ref();
        } else {
            HOLD.set(Hold::Woken);
        }
    }
}

impl Waking {
    /// Wakes `task`.
    pub(crate) fn new(task: &Waker) -> Self {
        let task = Arc::new(Task(task.clone()));
        let waker = Waker::from(Arc::clone(&task));
        Self(task, waker)
    }

    /// A context whose wakes reach the task of `cx`.
    pub(crate) fn context(&mut self, cx: &Context<'_>) -> Context<'_> {
        if !self.0.0.will_wake(cx.waker()) {
            *self = Self::new(cx.waker());
        }
        Context::from_waker(&self.1)
    }
}

/// Runs `poll`, which may wake the connection that is being polled. Returns, beside its result, whether it did: then the caller must wake the task
/// itself, unless it knows that there is nothing more to be done.
pub(crate) fn holding_back<R>(poll: impl FnOnce() -> R) -> (R, bool) {
    /// Also if the poll panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            HOLD.set(Hold::Off);
        }
    }
    HOLD.set(Hold::On);
    let _end = End;
    let result = poll();
    (result, HOLD.get() == Hold::Woken)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_reaches_the_task_unless_it_is_held_back_and_then_it_is_told() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut waking = Waking::new(&Waker::from(Arc::clone(&first)));
        let (one, two) = (Waker::from(Arc::clone(&first)), Waker::from(Arc::clone(&second)));
        waking.context(&Context::from_waker(&one)).waker().wake_by_ref();
        let (kept, held) = holding_back(|| {
            waking.context(&Context::from_waker(&one)).waker().wake_by_ref();
            7
        });
        assert_eq!((kept, held, holding_back(|| ()).1), (7, true, false));
        // Another task takes the connection over.
        waking.context(&Context::from_waker(&two)).waker().wake_by_ref();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn a_poll_that_panics_holds_nothing_back_any_more() {
        assert!(std::panic::catch_unwind(|| holding_back(|| panic!("a fault"))).is_err());
        let count = Arc::new(Count::default());
        let mut waking = Waking::new(&Waker::from(Arc::clone(&count)));
        let waker = Waker::from(Arc::clone(&count));
        waking.context(&Context::from_waker(&waker)).waker().wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
