// Everything of the source but its video, into the output: copied as it is, converted where the container cannot hold
// it, or left out with a sentence.
#pragma once

#include "media/ffmpeg/libav.h"
#include "media/ffmpeg/muxer.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace flashvsr::media {

// Turns packets of one stream into packets of another codec.
class PacketConverter {
 public:
  virtual ~PacketConverter() = default;
  // Parameters and time base of the output.
  virtual const AVCodecContext& encoder() const = 0;
  // `packet`: times in the stream's time base; nullptr: no more will come. Appends what comes out, times in the
  // encoder's time base. Damaged packets give nothing.
  virtual void convert(const AVPacket* packet, std::vector<AvPacket>& converted) = 0;
};

class StreamCopier {
 public:
  // Opens the source a second time and adds its streams to `output`, before the header is written. `video` gets the
  // metadata of the source's video.
  StreamCopier(const VideoInfo& source, Muxer& output, AVStream& video, std::vector<std::string>& notes);

  // When the first of the copied sound starts (seconds, of the output); 0 if there is none.
  double earliest() const { return earliest_; }

  // Writes what belongs before this time of the output (seconds), and a little more.
  void copy_until(double seconds);
  void copy_rest();

 private:
  struct Route {
    AVStream* output = nullptr;  // none: left out
    std::unique_ptr<PacketConverter> converter;
    bool is_audio = false, is_subtitle = false;
    // Samples at the start that are not to be heard and from which the container counts its time (Opus in Matroska).
    int lead_in = 0;
    std::int64_t last_dts = AV_NOPTS_VALUE;  // of the output, in its time base
    std::int64_t rescale_state = AV_NOPTS_VALUE;
  };

  void plan(AVStream& stream, std::vector<std::string>& notes);
  void plan_audio(AVStream& stream, std::vector<std::string>& notes);
  void plan_subtitle(AVStream& stream, std::vector<std::string>& notes);
  using MakeConverter = std::unique_ptr<PacketConverter> (*)(const AVStream& stream, const AVOutputFormat& container,
                                                             std::string& reason);
  // Copies the stream where the container holds it, else converts it with what `make` gives, else leaves it out.
  void plan_copy_or_conversion(AVStream& stream, const char* kind, MakeConverter make, std::vector<std::string>& notes);
  // False if the container has no place for it.
  bool plan_cover(AVStream& stream);
  bool plan_attachment(AVStream& stream);
  AVStream& add_output(AVStream& stream, const AVCodecParameters& parameters);
  void copy_chapters_and_metadata(AVStream& source_video, AVStream& video);

  void look_ahead();
  void write_covers();
  bool fetch(AVPacket& packet);
  bool read_packet();
  void route_packet();
  void write_converted(Route& route, const AVPacket* packet);
  void write(Route& route, AVPacket& packet, AVRational time_base);

  Muxer& output_;
  ReadInterrupt interrupt_;  // never raised: the source is a file
  InputFormat input_;
  std::vector<Route> routes_;  // by index of the input's stream
  std::vector<AVStream*> covers_;
  std::deque<AvPacket> looked_at_;  // read already, the first ones
  AvPacket packet_;
  bool pending_ = false;  // packet_ has been read, but its time has not come
  double earliest_ = 0.0;
  double packet_time_ = 0.0;  // seconds, of the output
  std::int64_t origin_ = 0;   // subtracted from every time, in AV_TIME_BASE
  bool at_end_ = true, started_ = false;
};

}  // namespace flashvsr::media
