//! Many runs at once, each of three nodes that wait.

use std::time::Duration;

use flowstone::{AsyncFlow, AsyncNode, Context, Result};
use tokio::time::sleep;

use super::{runtime, sure};

const WAIT: Duration = Duration::from_millis(50);

struct Wait;

impl AsyncNode<u32> for Wait {
    type Prep = ();
    type Exec = ();
    type Action = ();

    async fn prep(&self, _: &u32) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), _: &Context) -> Result<()> {
        sleep(WAIT).await;
        Ok(())
    }

    async fn post(&self, steps: &mut u32, (): (), (): ()) -> Result<()> {
        *steps += 1;
        Ok(())
    }
}

pub(super) fn ours(n: usize) {
    let mut flow = AsyncFlow::builder("wait");
    let [a, b, c] = ["a", "b", "c"].map(|name| flow.add(name, Wait));
    flow.start(a);
    flow.route(a >> b >> c);
    let flow = sure(flow.build());
    all(n, move || {
        let flow = flow.clone();
        async move {
            let mut steps = 0;
            sure(flow.run_async(&mut steps).await);
            steps
        }
    });
}

pub(super) fn limit(n: usize) {
    all(n, || async {
        let mut steps = 0;
        for _ in 0..3 {
            sleep(WAIT).await;
            steps += 1;
        }
        steps
    });
}

/// Starts n tasks, and waits for all.
fn all<F: Future<Output = u32> + Send + 'static>(n: usize, task: impl Fn() -> F + Send + 'static) {
    let steps = runtime().block_on(async move {
        // From a task, not from the main thread, so that starting is on the runtime's own queues.
        let starter = tokio::spawn(async move {
            let tasks: Vec<_> = (0..n).map(|_| tokio::spawn(task())).collect();
            let mut steps = 0;
            for task in tasks {
                steps += u64::from(sure(task.await));
            }
            steps
        });
        sure(starter.await)
    });
    assert_eq!(steps, 3 * n as u64);
}
