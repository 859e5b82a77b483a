//! How a task ends badly, and with which exit status.

/// What a task comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// A task's bad end.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration won't do: exit status 2.
    Usage(anyhow::Error),
    /// Something failed: exit status 1.
    Failed(anyhow::Error),
    /// Something failed and has been told already: exit status 1.
    Told,
    /// A signal stopped it, and that has been told already: exit status 128 and the signal's number, as shells have it.
    Stopped {
        /// The signal's number.
        signal: u8,
    },
}

impl Failure {
    /// A command line or configuration that won't do.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// The message, with its causes; `None` when it has been told already.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Usage(error) | Self::Failed(error) => Some(format!("{error:#}")),
            Self::Told | Self::Stopped { .. } => None,
        }
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Told => 1,
            Self::Stopped { signal } => 128 + signal,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
