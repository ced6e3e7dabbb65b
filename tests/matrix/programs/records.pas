{ SPDX-License-Identifier: Apache-2.0 }
{ Pascal: objects, exceptions, threads, sets, dynamic arrays, text and typed files. }
program records;
{$mode objfpc}{$H+}
uses {$ifdef unix}cthreads,{$endif} Classes, SysUtils;

type
  TPoint = record
    x, y: integer;
    name: string[10];
  end;
  TWorker = class(TThread)
  private
    FFrom: integer;
  public
    Sum: int64;
    constructor Create(from: integer);
    procedure Execute; override;
  end;

constructor TWorker.Create(from: integer);
begin
  FFrom := from;
  inherited Create(false);
end;

procedure TWorker.Execute;
var
  i: integer;
begin
  for i := FFrom to FFrom + 999 do Sum := Sum + i;
end;

var
  folder, line: string;
  workers: array of TWorker;
  points: file of TPoint;
  point: TPoint;
  lines: TStringList;
  letters: set of char;
  i: integer;
  total: int64;
  zero: integer;
begin
  folder := '/tmp';
  if ParamCount > 0 then folder := ParamStr(1);
  SetLength(workers, 6);
  for i := 0 to High(workers) do workers[i] := TWorker.Create(i * 1000);
  total := 0;
  for i := 0 to High(workers) do
  begin
    workers[i].WaitFor;
    total := total + workers[i].Sum;
    workers[i].Free;
  end;
  writeln('threads ', total);
  Assign(points, folder + '/points');
  Rewrite(points);
  for i := 1 to 20 do
  begin
    FillChar(point, SizeOf(point), 0);
    point.x := i;
    point.y := i * i;
    point.name := 'p' + IntToStr(i);
    Write(points, point);
  end;
  Seek(points, 6);
  Read(points, point);
  writeln('record ', point.x, ' ', point.y, ' ', point.name, ' of ', FileSize(points));
  Close(points);
  lines := TStringList.Create;
  for i := 1 to 50 do lines.Add(Format('%.3d %8.4f', [(i * 37) mod 50, Sqrt(i)]));
  lines.Sort;
  lines.SaveToFile(folder + '/from_pascal.txt');
  lines.LoadFromFile(folder + '/from_pascal.txt');
  writeln(lines.Count, ' lines, first ', lines[0]);
  lines.Free;
  letters := [];
  for i := 1 to Length(folder) do Include(letters, 'x');
  letters := letters + ['a'..'c'];
  for line in ['a', 'x', 'q'] do write(line, ' ', line[1] in letters, ' ');
  writeln;
  try
    raise Exception.Create('raised');
  except
    on E: Exception do writeln('caught ', E.Message);
  end;
  zero := StrToInt('0');
  try
    writeln(1 div zero);
  except
    on E: EDivByZero do writeln('division by zero');
  end;
  try
    PInteger(nil)^ := 5;
  except
    on E: EAccessViolation do writeln('access violation');
  end;
  Halt(8);
end.
