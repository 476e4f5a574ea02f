//! Replaces enum numbers that the generated messages have no name for.
//!
//! Owns what a client of the future may have said of itself and its tracks, which is passed on to
//! others; protobuf carries such numbers, the generated JSON refuses the whole message for one.
//! Never touches a number with a name. Called by `signal` once writing JSON has failed.

use livekit_protocol::data_track_frame_encoding::{Value as Frames, WellKnownFrameEncoding};
use livekit_protocol::data_track_schema_encoding::{Value as Schema, WellKnownSchemaEncoding};
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    AudioTrackFeature, BackupCodecPolicy, DataTrackInfo, DisconnectReason, PacketTrailerFeature,
    ParticipantInfo, SimulcastCodecInfo, TrackInfo, TrackSource, TrackType, VideoLayer,
    VideoQuality, client_info, encryption, participant_info, request_response, video_layer,
};

/// Leaves only known numbers in what clients may have chosen: a single one becomes the default, in
/// a list it is left out. An echoed request is dropped, as the client has its number.
pub(super) fn keep_known(message: &mut Message) {
    match message {
        Message::Join(join) => {
            join.participant.iter_mut().for_each(participant);
            join.other_participants.iter_mut().for_each(participant);
        }
        Message::Update(update) => update.participants.iter_mut().for_each(participant),
        Message::RoomMoved(moved) => {
            moved.participant.iter_mut().for_each(participant);
            moved.other_participants.iter_mut().for_each(participant);
        }
        Message::TrackPublished(published) => published.track.iter_mut().for_each(track),
        Message::RequestResponse(response) => {
            // The default would say that all went well.
            if request_response::Reason::try_from(response.reason).is_err() {
                response.reason = request_response::Reason::UnclassifiedError.into();
            }
            response.request = None;
        }
        // Their numbers are the server's own.
        _ => {}
    }
}

fn participant(info: &mut ParticipantInfo) {
    one::<participant_info::State>(&mut info.state);
    one::<participant_info::Kind>(&mut info.kind);
    one::<DisconnectReason>(&mut info.disconnect_reason);
    many::<participant_info::KindDetail>(&mut info.kind_details);
    many::<client_info::Capability>(&mut info.capabilities);
    if let Some(permission) = &mut info.permission {
        sources(&mut permission.can_publish_sources);
    }
    info.tracks.iter_mut().for_each(track);
    info.data_tracks.iter_mut().for_each(data_track);
}

/// Where an empty list means "all", leaving out the last number would permit more; the source
/// without a name permits nothing instead.
fn sources(numbers: &mut Vec<i32>) {
    let limited = !numbers.is_empty();
    many::<TrackSource>(numbers);
    if limited && numbers.is_empty() {
        numbers.push(TrackSource::Unknown.into());
    }
}

#[expect(
    deprecated,
    reason = "clients still send and read the layers of a track"
)]
fn track(info: &mut TrackInfo) {
    one::<TrackType>(&mut info.r#type);
    one::<TrackSource>(&mut info.source);
    one::<encryption::Type>(&mut info.encryption);
    one::<BackupCodecPolicy>(&mut info.backup_codec_policy);
    many::<AudioTrackFeature>(&mut info.audio_features);
    many::<PacketTrailerFeature>(&mut info.packet_trailer_features);
    info.layers.iter_mut().for_each(layer);
    info.codecs.iter_mut().for_each(codec);
}

fn codec(info: &mut SimulcastCodecInfo) {
    one::<video_layer::Mode>(&mut info.video_layer_mode);
    info.layers.iter_mut().for_each(layer);
}

fn layer(info: &mut VideoLayer) {
    one::<VideoQuality>(&mut info.quality);
}

fn data_track(info: &mut DataTrackInfo) {
    one::<encryption::Type>(&mut info.encryption);
    let frames = info.frame_encoding.as_mut();
    if let Some(Frames::WellKnown(number)) = frames.and_then(|frames| frames.value.as_mut()) {
        one::<WellKnownFrameEncoding>(number);
    }
    let schema = info.schema.as_mut();
    let encoding = schema.and_then(|schema| schema.encoding.as_mut());
    if let Some(Schema::WellKnown(number)) = encoding.and_then(|encoding| encoding.value.as_mut()) {
        one::<WellKnownSchemaEncoding>(number);
    }
}

fn one<E: TryFrom<i32> + Default + Into<i32>>(number: &mut i32) {
    if E::try_from(*number).is_err() {
        *number = E::default().into();
    }
}

fn many<E: TryFrom<i32>>(numbers: &mut Vec<i32>) {
    numbers.retain(|number| E::try_from(*number).is_ok());
}

#[cfg(test)]
mod tests;
