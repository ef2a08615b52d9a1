//! Several snapshots behind each other, each one read up to its own end: pieces with their lengths before
//! them, and a length of 0 at the end.

use raft_core::snapshot::{SnapshotError, SnapshotSink, SnapshotSource};

/// The longest piece that is read.
const FRAME_BYTES_MAX: u32 = 1 << 30;

/// Writes one snapshot among others.
pub(super) struct FrameSink<'a>(pub(super) &'a mut dyn SnapshotSink);

impl FrameSink<'_> {
    /// Nothing follows.
    pub(super) fn end(self) -> Result<(), SnapshotError> {
        self.0.write(&0_u32.to_le_bytes())
    }
}

impl SnapshotSink for FrameSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        for bytes in bytes.chunks(FRAME_BYTES_MAX as usize) {
            self.0.write(&(bytes.len() as u32).to_le_bytes())?;
            self.0.write(bytes)?;
        }
        Ok(())
    }
}

/// Reads one snapshot among others.
pub(super) struct FrameSource<'a> {
    source: &'a mut dyn SnapshotSource,
    /// Bytes left of this piece.
    left: usize,
    has_ended: bool,
}

impl<'a> FrameSource<'a> {
    pub(super) fn new(source: &'a mut dyn SnapshotSource) -> Self {
        FrameSource { source, left: 0, has_ended: false }
    }

    /// Whatever was to be read was read.
    pub(super) fn end(mut self) -> Result<(), SnapshotError> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(SnapshotError("bytes follow the end of a shard".to_owned())),
        }
    }
}

impl SnapshotSource for FrameSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        if self.left == 0 && !self.has_ended {
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            let length = u32::from_le_bytes(length);
            if length > FRAME_BYTES_MAX {
                return Err(SnapshotError(format!("a piece of {length} bytes of a shard")));
            }
            (self.left, self.has_ended) = (length as usize, length == 0);
        }
        let wanted = buffer.len().min(self.left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(SnapshotError("the snapshot ends within a shard".to_owned()));
        }
        self.left -= read;
        Ok(read)
    }
}
