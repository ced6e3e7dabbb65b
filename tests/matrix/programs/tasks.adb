--  SPDX-License-Identifier: Apache-2.0
--  Ada: tasks, rendezvous, protected objects, delays, exceptions and checks, containers, files.
with Ada.Command_Line;
with Ada.Containers.Indefinite_Ordered_Maps;
with Ada.Exceptions;
with Ada.Text_IO; use Ada.Text_IO;

procedure Tasks is
   protected Counter is
      procedure Add (Amount : Integer);
      function Value return Integer;
   private
      Sum : Integer := 0;
   end Counter;

   protected body Counter is
      procedure Add (Amount : Integer) is
      begin
         Sum := Sum + Amount;
      end Add;
      function Value return Integer is (Sum);
   end Counter;

   task type Worker is
      entry Start (Given : Integer);
      entry Finish (Result : out Integer);
   end Worker;

   task body Worker is
      Mine : Integer;
   begin
      accept Start (Given : Integer) do
         Mine := Given;
      end Start;
      for I in 1 .. 1000 loop
         Counter.Add (Mine);
      end loop;
      accept Finish (Result : out Integer) do
         Result := Mine * Mine;
      end Finish;
   end Worker;

   package Maps is new Ada.Containers.Indefinite_Ordered_Maps (String, Integer);
   Words : Maps.Map;
   Total : Integer := 0;
   One   : Integer;

   procedure Check_Index (At_Index : Integer) is
      Values : array (1 .. 5) of Integer := (others => 1);
   begin
      Values (At_Index) := 2;
      Put_Line ("not reached" & Values (1)'Image);
   exception
      when Constraint_Error =>
         Put_Line ("constraint error");
   end Check_Index;

   function Deep (Depth : Integer) return Integer is
      Frame : array (1 .. 1000) of Integer := (others => Depth);
   begin
      return Deep (Depth + 1) + Frame (Depth mod 1000 + 1);
   end Deep;

   procedure Write_And_Read (Folder : String) is
      File  : File_Type;
      Count : Integer := 0;
   begin
      Create (File, Out_File, Folder & "/from_ada.txt");
      for I in 1 .. 200 loop
         Put_Line (File, I'Image & Integer'Image (I * I));
      end loop;
      Reset (File, In_File);
      while not End_Of_File (File) loop
         Count := Count + Get_Line (File)'Length;
      end loop;
      Close (File);
      Put_Line ("characters" & Count'Image);
      Open (File, In_File, "/none");
   exception
      when Name_Error =>
         Put_Line ("no such file");
   end Write_And_Read;
begin
   declare
      Workers : array (1 .. 8) of Worker;
   begin
      for I in Workers'Range loop
         Workers (I).Start (I);
      end loop;
      for I in Workers'Range loop
         Workers (I).Finish (One);
         Total := Total + One;
      end loop;
   end;
   Put_Line ("tasks" & Total'Image & Counter.Value'Image);
   select
      delay 0.02;
      Put_Line ("delay over");
   then abort
      loop
         delay 0.001;
      end loop;
   end select;
   for Word of Maps.Map'(Maps.Empty_Map) loop
      null;
   end loop;
   Words.Include ("two", 2);
   Words.Include ("one", 1);
   for Position in Words.Iterate loop
      Put (Maps.Key (Position) & Maps.Element (Position)'Image & " ");
   end loop;
   New_Line;
   Check_Index (Integer'Value ("7"));
   begin
      raise Program_Error with "raised";
   exception
      when Error : Program_Error =>
         Put_Line (Ada.Exceptions.Exception_Message (Error));
   end;
   begin
      Put_Line ("deep" & Deep (1)'Image);
   exception
      when Storage_Error =>
         Put_Line ("storage error");
   end;
   Write_And_Read ((if Ada.Command_Line.Argument_Count > 0
                    then Ada.Command_Line.Argument (1) else "/tmp"));
   Ada.Command_Line.Set_Exit_Status (7);
end Tasks;
