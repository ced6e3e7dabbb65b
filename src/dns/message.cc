// SPDX-License-Identifier: Apache-2.0
#include "src/dns/message.h"

#include <algorithm>

#include "src/base/status.h"
#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

absl::Status CutOff() { return InvalidArgument("the message is cut off, or a name is malformed"); }

absl::StatusOr<Record> ReadRecord(Bytes bytes, Reader& reader) {
  Record record;
  record.owner = reader.ReadName(Compression::kAllowed);
  record.type = reader.U16();
  record.klass = reader.U16();
  record.ttl_seconds = reader.U32();
  const std::size_t length = reader.U16();
  const std::size_t begin = reader.position();
  reader.Take(length);
  if (!reader.ok()) return CutOff();
  WAXVM_ASSIGN_OR_RETURN(record.data, ReadRdata(record.type, Reader(bytes, begin, begin + length)));
  // With names uncompressed the data could not be written again.
  if (record.data.size() > kMaxMessageBytes)
    return InvalidArgument("a record has more than 65535 bytes");
  return record;
}

absl::Status ReadRecords(Bytes bytes, std::size_t count, Reader& reader,
                         std::vector<Record>& records) {
  for (std::size_t i = 0; i < count; ++i) {
    WAXVM_ASSIGN_OR_RETURN(Record record, ReadRecord(bytes, reader));
    records.push_back(std::move(record));
  }
  return absl::OkStatus();
}

absl::Status WriteRecords(const std::vector<Record>& records, Writer& writer) {
  for (const Record& record : records) {
    WAXVM_RETURN_IF_ERROR(CheckRdata(record.type, record.data));
    writer.PutCompressed(record.owner);
    writer.U16(record.type);
    writer.U16(record.klass);
    writer.U32(record.ttl_seconds);
    WriteRdata(record.type, record.data, writer);
  }
  return absl::OkStatus();
}

}  // namespace

std::string Record::ToText() const {
  return absl::StrFormat("%s %d %s %s %s", owner.ToText(), ttl_seconds,
                         klass == kClassIn ? "IN" : absl::StrFormat("CLASS%d", klass),
                         TypeToText(type), RdataToText(type, data));
}

absl::StatusOr<Message> DecodeMessage(Bytes bytes) {
  if (bytes.size() > kMaxMessageBytes)
    return InvalidArgument("a message has at most 65535 bytes, not %d", bytes.size());
  Reader reader(bytes);
  Message message;
  message.id = reader.U16();
  message.flags = reader.U16();
  const std::size_t questions = reader.U16();
  const std::size_t answers = reader.U16();
  const std::size_t authority = reader.U16();
  const std::size_t additional = reader.U16();
  // Attack: counts that nothing follows. Vectors grow only with what was read.
  for (std::size_t i = 0; i < questions && reader.ok(); ++i) {
    Question question;
    question.name = reader.ReadName(Compression::kAllowed);
    question.type = reader.U16();
    question.klass = reader.U16();
    message.questions.push_back(question);
  }
  if (!reader.ok()) return CutOff();
  WAXVM_RETURN_IF_ERROR(ReadRecords(bytes, answers, reader, message.answers));
  WAXVM_RETURN_IF_ERROR(ReadRecords(bytes, authority, reader, message.authority));
  WAXVM_RETURN_IF_ERROR(ReadRecords(bytes, additional, reader, message.additional));
  if (reader.left() != 0) return InvalidArgument("%d bytes follow the message", reader.left());
  return message;
}

absl::StatusOr<std::string> EncodeMessage(const Message& message, std::size_t max_bytes) {
  std::string bytes(std::min(max_bytes, kMaxMessageBytes), '\0');
  Writer writer({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  writer.U16(message.id);
  writer.U16(message.flags);
  const std::vector<Record>* const sections[] = {&message.answers, &message.authority,
                                                 &message.additional};
  if (message.questions.size() > 65535) return InvalidArgument("too many questions");
  writer.U16(message.questions.size());
  for (const auto* section : sections) {
    if (section->size() > 65535) return InvalidArgument("too many records");
    writer.U16(section->size());
  }
  for (const Question& question : message.questions) {
    writer.PutCompressed(question.name);
    writer.U16(question.type);
    writer.U16(question.klass);
  }
  for (const auto* section : sections) WAXVM_RETURN_IF_ERROR(WriteRecords(*section, writer));
  if (!writer.ok())
    return absl::ResourceExhaustedError(
        absl::StrFormat("the message is longer than %d bytes", bytes.size()));
  bytes.resize(writer.position());
  return bytes;
}

}  // namespace waxvm::dns
