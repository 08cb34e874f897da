//! The flow in memory, and in a store that another process opens later.

use super::*;

#[tokio::test]
async fn a_digest_is_sent_once_it_is_approved() -> Result<(), Box<dyn Error>> {
    let (flow, mut state) = (digest(Duration::ZERO)?, Digest::default());

    let Outcome::Paused(question) = flow.run_async(&mut state).await? else { panic!("nobody was asked") };
    assert_eq!(question.question()[0], "bees: 4 letters");
    flow.resume(&mut state, question, true).await?;

    assert!(state.sent);
    Ok(())
}

#[tokio::test]
async fn a_question_outlives_the_process_that_asked() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("digest.db");

    let runs = Runs::open(&file, digest(Duration::ZERO)?).await?;
    runs.start("monday", Digest::default()).await?.settled().await?;
    runs.store().close().await;
    let later = Runs::open(&file, digest(Duration::ZERO)?).await?;
    later.answer("monday", "approve", false).await?;
    let ended = later.get("monday").await?.finished().await?.ended()?;

    assert!(!ended.state.sent);
    Ok(())
}
